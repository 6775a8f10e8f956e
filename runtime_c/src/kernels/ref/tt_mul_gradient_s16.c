// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/mul.h"

void tt_mul_gradient_s16(const void *args) {
    const tt_mul_gradient_s16_args *k = args;
    const int32_t exponent = tt_exponent_of(k->gy_exponent, k->gy_exponent_offset);
    const int32_t right = tt_exponent_begin(k->gx_exponent) - exponent;
    uint64_t largest = 0;
    for (int32_t start = 0; start < k->size; start += k->other_size) {
        for (int32_t i = 0; i < k->other_size; i++) {
            const int64_t product = (int64_t)(k->gy[start + i] * (k->other[i] - k->other_zero_point)) * k->factor;
            const uint64_t magnitude = tt_magnitude(product);
            if (magnitude > largest) { largest = magnitude; }
            k->gx[start + i] = tt_mantissa16(product, right);
        }
    }
    tt_exponent_end(k->gx_exponent, largest, exponent);
}
