// SPDX-License-Identifier: Apache-2.0
// One bit per element: does the gradient of a clamped output pass?
#ifndef TINYTRAIN_KERNELS_CLAMP_MASK_H
#define TINYTRAIN_KERNELS_CLAMP_MASK_H

#include "tinytrain/types.h"

// Bit i % 8 of byte i / 8 is set where clamp_low < y[i] < clamp_high; unused bits of the last byte are 0.
typedef struct tt_clamp_mask_s8_args {
    const int8_t *y;
    uint8_t *mask;  // [(size + 7) / 8]
    int32_t size;
    int32_t clamp_low, clamp_high;
} tt_clamp_mask_s8_args;
void tt_clamp_mask_s8(const void *args);

#endif
