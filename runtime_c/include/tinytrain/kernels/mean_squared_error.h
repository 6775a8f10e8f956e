// SPDX-License-Identifier: Apache-2.0
// The mean of squared differences between outputs and targets.
#ifndef TINYTRAIN_KERNELS_MEAN_SQUARED_ERROR_H
#define TINYTRAIN_KERNELS_MEAN_SQUARED_ERROR_H

#include "tinytrain/types.h"

// gradient = 2 / N (y - target) as mantissas under a delayed exponent; result = {mean of (y - target)^2 in 2^-16, 0}.
// The targets are either numbers of 2^-16, or a sample of int8: multiplier * 2^(shift - 31) * (sample - zero point).
typedef struct tt_mean_squared_error_s32_args {
    const int32_t *y;       // [count], in 2^-16
    const int32_t *target;  // [count], in 2^-16, or NULL
    const int8_t *sample;   // [count], where target is NULL
    int32_t sample_zero_point;
    int32_t sample_multiplier;  // of the sample's scale * 2^16
    int32_t sample_shift;
    int16_t *gradient;      // [count]
    tt_exponent *gradient_exponent;
    int32_t factor_multiplier;  // of 2 / count, in [2^30, 2^31)
    int32_t factor_shift;
    int32_t *result;        // [2]
    int32_t count;          // 1 to 65535
} tt_mean_squared_error_s32_args;
void tt_mean_squared_error_s32(const void *args);

#endif
