// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/mul.h"

// 256 products of an int16 gradient and a difference of int8 fit 31 bits and a sign.
enum { CHUNK = 256 };

static int64_t sum_pixels(const tt_mul_channel_gradient_s16_args *k, int32_t channel) {
    const int16_t *gy = k->gy + channel;
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

void tt_mul_channel_gradient_s16(const void *args) {
    const tt_mul_channel_gradient_s16_args *k = args;
    const int32_t exponent = tt_exponent_of(k->gy_exponent, k->gy_exponent_offset);
    const int32_t right = tt_exponent_begin(k->gx_exponent) - exponent;
    uint64_t largest = 0;
    for (int32_t channel = 0; channel < k->channels; channel++) {
        const int64_t sum = sum_pixels(k, channel) * k->factor;
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        k->gx[channel] = tt_mantissa16(sum, right);
    }
    tt_exponent_end(k->gx_exponent, largest, exponent);
}
