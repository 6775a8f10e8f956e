// SPDX-License-Identifier: Apache-2.0
// Mean over neighbouring axes, and its gradient. A tensor is seen as [outer, count, inner]; `count` elements are
// averaged.
#ifndef TINYTRAIN_KERNELS_MEAN_H
#define TINYTRAIN_KERNELS_MEAN_H

#include "tinytrain/types.h"

// y = clamp(requantize(sum of x - zx) + zy). In place: no. Scratch: none.
// The sum fits int32: count <= 2^22 (checked at compile time).
typedef struct tt_mean_s8_args {
    const int8_t *x;                // [outer, count, inner]
    int8_t *y;                      // [outer, inner]
    int32_t outer, count, inner;
    int32_t x_zero_point, y_zero_point;
    int32_t y_multiplier, y_shift;  // holds 1 / count
    int32_t clamp_low, clamp_high;
} tt_mean_s8_args;
void tt_mean_s8(const void *args);

// gx = round(gy * factor / 2^15), repeated `count` times; gx's exponent is gy's plus a constant.
// In place: no. Scratch: none.
typedef struct tt_mean_gradient_s16_args {
    const int16_t *gy;              // [outer, inner]
    int16_t *gx;                    // [outer, count, inner]
    int32_t outer, count, inner;
    int32_t factor;                 // 16385 to 32768: 1 / count, less its power of two
} tt_mean_gradient_s16_args;
void tt_mean_gradient_s16(const void *args);

// The same as 8-bit mantissas under a delayed exponent of their own: under gy's, much would be rounded away.
typedef struct tt_mean_gradient_s8_args {
    const int8_t *gy;               // [outer, inner]
    int8_t *gx;                     // [outer, count, inner]
    int32_t outer, count, inner;
    int32_t factor;                 // as in tt_mean_gradient_s16_args
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;     // holds the power of two of 1 / count, less the factor's 15 bits
    tt_exponent *gx_exponent;
} tt_mean_gradient_s8_args;
void tt_mean_gradient_s8(const void *args);

#endif
