// SPDX-License-Identifier: Apache-2.0
// The same reals under another scale, zero point and clamp.
#ifndef TINYTRAIN_KERNELS_REQUANTIZE_H
#define TINYTRAIN_KERNELS_REQUANTIZE_H

#include "tinytrain/types.h"

// y = clamp(requantize(x - zx) + zy). In place: y may be x. Scratch: none.
// The result before the clamp stays below 2^30 (checked at compile time).
typedef struct tt_requantize_s8_args {
    const int8_t *x;  // [size]
    int8_t *y;        // [size]
    int32_t size;
    int32_t x_zero_point, y_zero_point;
    int32_t y_multiplier, y_shift;
    int32_t clamp_low, clamp_high;
} tt_requantize_s8_args;
void tt_requantize_s8(const void *args);

#endif
