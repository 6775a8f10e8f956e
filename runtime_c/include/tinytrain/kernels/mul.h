// SPDX-License-Identifier: Apache-2.0
// Element by element product and its gradients. One operand may be smaller: it then repeats (channels are innermost).
#ifndef TINYTRAIN_KERNELS_MUL_H
#define TINYTRAIN_KERNELS_MUL_H

#include "tinytrain/types.h"

// y = clamp(requantize((a - za) (b - zb)) + zy). In place: y may be a, or b of y's size. Scratch: none.
// The result before the clamp stays below 2^30 (checked at compile time).
typedef struct tt_mul_s8_args {
    const int8_t *a;            // [size]
    const int8_t *b;            // [b_size], repeated
    int8_t *y;                  // [size]
    int32_t size, b_size;       // size is a multiple of b_size
    int32_t a_zero_point, b_zero_point, y_zero_point;
    int32_t y_multiplier, y_shift;
    int32_t clamp_low, clamp_high;
} tt_mul_s8_args;
void tt_mul_s8(const void *args);

// gx = gy * scale * (other - zero point), element by element, as mantissas under a delayed exponent.
// In place: gx may be gy. Scratch: none. |gy (other - zero point) factor| < 2^39.
typedef struct tt_mul_gradient_args {
    const void *gy;                // mantissas [size]
    const int8_t *other;           // [other_size], repeated
    void *gx;                      // mantissas [size]
    int32_t size, other_size;      // size is a multiple of other_size
    int32_t other_zero_point;
    int32_t factor;                // 16385 to 32768: the scale of `other`, less its power of two
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;    // holds that power of two
    tt_exponent *gx_exponent;
} tt_mul_gradient_args;
typedef tt_mul_gradient_args tt_mul_gradient_s16_args;
typedef tt_mul_gradient_args tt_mul_gradient_s8_args;
void tt_mul_gradient_s16(const void *args);
void tt_mul_gradient_s8(const void *args);

// gx[c] = sum over pixels of gy * scale * (other - zero point), as mantissas under a delayed exponent.
// In place: no. Scratch: none. Sums are exact in int64: |sum factor| < 2^39 pixels.
typedef struct tt_mul_channel_gradient_args {
    const void *gy;                // mantissas [pixels, channels]
    const int8_t *other;           // [pixels, channels]
    void *gx;                      // mantissas [channels]
    int32_t pixels, channels;
    int32_t other_zero_point;
    int32_t factor;                // as in tt_mul_gradient_s16_args
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;
    tt_exponent *gx_exponent;
} tt_mul_channel_gradient_args;
typedef tt_mul_channel_gradient_args tt_mul_channel_gradient_s16_args;
typedef tt_mul_channel_gradient_args tt_mul_channel_gradient_s8_args;
void tt_mul_channel_gradient_s16(const void *args);
void tt_mul_channel_gradient_s8(const void *args);

#endif
