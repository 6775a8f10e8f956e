// SPDX-License-Identifier: Apache-2.0
// Bias gradient and update.
#ifndef TINYTRAIN_KERNELS_BIAS_UPDATE_H
#define TINYTRAIN_KERNELS_BIAS_UPDATE_H

#include "tinytrain/types.h"

// b -= rate * sum over pixels of gy. Sums are exact in int64.
typedef struct tt_bias_update_args {
    const void *gy;    // mantissas [pixels, channels]
    int32_t pixels, channels;
    tt_update update;  // target [channels]
} tt_bias_update_args;
typedef tt_bias_update_args tt_bias_update_s16_args;
typedef tt_bias_update_args tt_bias_update_s8_args;
void tt_bias_update_s16(const void *args);
void tt_bias_update_s8(const void *args);

#endif
