// SPDX-License-Identifier: Apache-2.0
// The end of a batch.
#ifndef TINYTRAIN_KERNELS_APPLY_ACCUMULATED_H
#define TINYTRAIN_KERNELS_APPLY_ACCUMULATED_H

#include "tinytrain/types.h"

// parameter -= accumulator * 2^-right (in units of the parameter's last fractional bit) and decays; accumulator = 0.
typedef struct tt_apply_accumulated_s32_args {
    void *parameter;       // elements by mode
    void *master;          // or NULL
    int32_t *accumulator;  // [size]
    const tt_hyper *hyper;
    int32_t size;
    int32_t right;         // may be negative: a left shift
    uint32_t stream;       // of the random generator
    int32_t mode;          // enum tt_update_mode, not TT_UPDATE_ACCUMULATE
    int32_t decay_multiplier;  // of the update's learning rate, for the share a weight loses; 0: none
    int32_t decay_shift;
} tt_apply_accumulated_s32_args;
void tt_apply_accumulated_s32(const void *args);

#endif
