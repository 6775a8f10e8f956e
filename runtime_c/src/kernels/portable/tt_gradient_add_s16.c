// SPDX-License-Identifier: Apache-2.0
// tt_gradient_add_s16 in 32 bits: where exponents lie close, sums in units of the smaller one are exact there.
#include "tinytrain/gradients/gradient_add.h"

enum { CLOSEST = 14 };  // a mantissa raised by so many bits, and another one, fit 31 bits and a sign

// y = a * 2^a_up + b * 2^b_up as mantissas, for 1 <= right <= 30; returns the largest magnitude of the sums.
TT_INNER_LOOP static uint32_t add_close(const tt_gradient_add_args *k, int32_t a_up, int32_t b_up, int32_t right) {
    const int16_t *a = k->a, *b = k->b, *end = a + k->size;
    const int32_t half = 1 << (right - 1);
    int16_t *y = k->y;
    int32_t low = 0, high = 0;
    while (a < end) {
        const int32_t sum = *a++ * (1 << a_up) + *b++ * (1 << b_up);
        low = tt_min(low, sum), high = tt_max(high, sum);
        *y++ = (int16_t)tt_clamp((sum + half) >> right, TT_MANTISSA_MIN, TT_MANTISSA_MAX);
    }
    return (uint32_t)tt_max(high, -low);
}

TT_RARE static void add_any(const tt_gradient_add_args *a) { tt_gradient_add(a); }

void tt_gradient_add_s16(const void *args) {
    const tt_gradient_add_args *a = args;
    const int32_t a_exponent = tt_exponent_of(a->a_exponent, a->a_exponent_offset);
    const int32_t b_exponent = tt_exponent_of(a->b_exponent, a->b_exponent_offset);
    const int32_t smaller = tt_min(a_exponent, b_exponent), gap = tt_max(a_exponent, b_exponent) - smaller;
    if (gap > CLOSEST) {
        add_any(a);
        return;
    }
    tt_exponent begun = *a->y_exponent;
    const int32_t right = tt_exponent_begin(&begun, TT_GRADIENT_BITS) - smaller;
    if (right < 1 || right > 29) {
        add_any(a);
        return;
    }
    *a->y_exponent = begun;
    const uint32_t largest = add_close(a, a_exponent - smaller, b_exponent - smaller, right);
    tt_exponent_end(a->y_exponent, largest, smaller);
}
