// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_MUL_CHANNEL_GRADIENT_H
#define TINYTRAIN_GRADIENTS_MUL_CHANNEL_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mul.h"

// 256 products of a 16-bit mantissa and a difference of int8 fit 31 bits and a sign.
enum { CHUNK = 256 };

static inline int64_t sum_pixels(const tt_mul_channel_gradient_args *k, int32_t channel) {
    const tt_mantissa *gy = (const tt_mantissa *)k->gy + channel;
    const int8_t *other = k->other + channel;
    int64_t sum = 0;
    for (int32_t start = 0; start < k->pixels; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, k->pixels);
        int32_t part = 0;
        for (int32_t pixel = start; pixel < end; pixel++, gy += k->channels, other += k->channels) {
            part += *gy * (*other - k->other_zero_point);
        }
        sum += part;
    }
    return sum;
}

static inline void tt_mul_channel_gradient(const tt_mul_channel_gradient_args *k) {
    const int32_t exponent = tt_exponent_of(k->gy_exponent, k->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(k->gx_exponent, exponent);
    tt_mantissa *gx = k->gx;
    uint64_t largest = 0;
    for (int32_t channel = 0; channel < k->channels; channel++) {
        const int64_t sum = sum_pixels(k, channel) * k->factor;
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        gx[channel] = tt_to_mantissa(&rounding, sum, channel);
    }
    tt_exponent_end(k->gx_exponent, largest, exponent);
}

#endif
