// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/gradient_add.h"
#include "tinytrain/arithmetic.h"

// Bits kept below the larger of the two exponents.
enum { GUARD_BITS = 24 };

void tt_gradient_add_s16(const void *args) {
    const tt_gradient_add_s16_args *a = args;
    const int32_t a_exponent = tt_exponent_of(a->a_exponent, a->a_exponent_offset);
    const int32_t b_exponent = tt_exponent_of(a->b_exponent, a->b_exponent_offset);
    const int32_t common = tt_max(a_exponent, b_exponent) - GUARD_BITS;
    const int32_t right = tt_exponent_begin(a->y_exponent) - common;
    uint64_t largest = 0;
    for (int32_t i = 0; i < a->size; i++) {
        const int64_t sum =
            tt_rounding_shift(a->a[i], common - a_exponent) + tt_rounding_shift(a->b[i], common - b_exponent);
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        a->y[i] = tt_mantissa16(sum, right);
    }
    tt_exponent_end(a->y_exponent, largest, common);
}
