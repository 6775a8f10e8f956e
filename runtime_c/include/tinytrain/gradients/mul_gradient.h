// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_MUL_GRADIENT_H
#define TINYTRAIN_GRADIENTS_MUL_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mul.h"

static inline void tt_mul_gradient(const tt_mul_gradient_args *k) {
    const int32_t exponent = tt_exponent_of(k->gy_exponent, k->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(k->gx_exponent, exponent);
    const tt_mantissa *gy = k->gy;
    tt_mantissa *gx = k->gx;
    uint64_t largest = 0;
    for (int32_t start = 0; start < k->size; start += k->other_size) {
        for (int32_t i = 0; i < k->other_size; i++) {
            const int64_t product = (int64_t)(gy[start + i] * (k->other[i] - k->other_zero_point)) * k->factor;
            const uint64_t magnitude = tt_magnitude(product);
            if (magnitude > largest) { largest = magnitude; }
            gx[start + i] = tt_to_mantissa(&rounding, product, start + i);
        }
    }
    tt_exponent_end(k->gx_exponent, largest, exponent);
}

#endif
