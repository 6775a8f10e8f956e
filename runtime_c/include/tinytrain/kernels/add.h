// SPDX-License-Identifier: Apache-2.0
// Element by element sum.
#ifndef TINYTRAIN_KERNELS_ADD_H
#define TINYTRAIN_KERNELS_ADD_H

#include "tinytrain/types.h"

// y = clamp(requantize(A (a - za) + B (b - zb)) + zy), the differences raised by 20 bits. In place: y may be a, or b of
// y's size. Scratch: none. |difference| <= 255, A and B <= 1/2 and the factor of y below 1: all fits int32.
typedef struct tt_add_s8_args {
    const int8_t *a;                       // [size]
    const int8_t *b;                       // [size], or one element
    int8_t *y;                             // [size]
    int32_t size;
    int32_t b_step;                        // 1, or 0: b is one element
    int32_t a_zero_point, b_zero_point, y_zero_point;
    int32_t a_multiplier, a_shift;         // to twice the larger scale
    int32_t b_multiplier, b_shift;
    int32_t y_multiplier, y_shift;         // from there to y's integers, less 20 bits
    int32_t clamp_low, clamp_high;
} tt_add_s8_args;
void tt_add_s8(const void *args);

#endif
