// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_GRADIENT_ADD_H
#define TINYTRAIN_GRADIENTS_GRADIENT_ADD_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/gradient_add.h"

// Bits kept below the larger of the two exponents.
enum { GUARD_BITS = 24 };

static inline void tt_gradient_add(const tt_gradient_add_args *a) {
    const int32_t a_exponent = tt_exponent_of(a->a_exponent, a->a_exponent_offset);
    const int32_t b_exponent = tt_exponent_of(a->b_exponent, a->b_exponent_offset);
    const int32_t common = tt_max(a_exponent, b_exponent) - GUARD_BITS;
    const tt_rounding rounding = tt_gradient_begin(a->y_exponent, common);
    const tt_mantissa *first = a->a, *second = a->b;
    tt_mantissa *y = a->y;
    uint64_t largest = 0;
    for (int32_t i = 0; i < a->size; i++) {
        const int64_t sum =
            tt_rounding_shift(first[i], common - a_exponent) + tt_rounding_shift(second[i], common - b_exponent);
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        y[i] = tt_to_mantissa(&rounding, sum, i);
    }
    tt_exponent_end(a->y_exponent, largest, common);
}

#endif
