// SPDX-License-Identifier: Apache-2.0
// tt_gradient_add_s16: pairs (a, b) meet the powers of two between their exponents in one SMUAD, a rounded high word of
// the sum is its mantissa, and the watch looks at two mantissas at a time. Sums are doubled, so that a shift by 1 has a
// factor, too.
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/gradients/gradient_add.h"

enum { CLOSEST = 13 };  // twice so large a power of two fits int16

typedef struct sum_of {
    uint32_t ups;   // 2 * 2^(bits that a is raised by), and b's above it
    int32_t scale;  // 2^(31 - rounding shift)
    int32_t right;
} sum_of;

// y = (a, b) . ups as mantissas, for pairs of elements at whole words.
TT_INNER_LOOP static void add_pairs(const tt_gradient_add_args *k, const sum_of *of, tt_watch *watch) {
    const uint32_t *a = k->a, *b = k->b, *const end = a + k->size / 2;
    uint32_t *y = k->y;
    const int16x2_t ups = (int16x2_t)of->ups;
    const int32_t scale = of->scale;
    while (a < end) {
        const uint32_t in_a = *a++, in_b = *b++;
        const int32_t first = __smuad((int16x2_t)tt_firsts(in_a, in_b), ups);
        const int32_t second = __smuad((int16x2_t)tt_seconds(in_a, in_b), ups);
        const uint32_t pair =
            tt_saturated_pair(tt_rounded_high_word(first, scale), tt_rounded_high_word(second, scale));
        *y++ = pair;
        if ((watch->minus_square & tt_watched(pair, watch->minus_square)) >= 0) {
            const int32_t hit[2] = {first / 2, second / 2};
            tt_watch_sums(watch, hit, 2, of->right);
        }
    }
}

// Element by element, from `first` on.
static void add_rest(const tt_gradient_add_args *k, const sum_of *of, int32_t first, tt_watch *watch) {
    const int16_t *a = k->a, *b = k->b;
    int16_t *y = k->y;
    for (int32_t i = first; i < k->size; i++) {
        const int32_t twice = a[i] * (int16_t)of->ups + b[i] * (int16_t)(of->ups >> 16), sum = twice / 2;
        tt_watch_sums(watch, &sum, 1, of->right);
        y[i] = (int16_t)tt_saturate16(tt_rounded_high_word(twice, of->scale));
    }
}

// Exponents that lie further apart, and shifts that have no factor.
TT_RARE static void add_any(const tt_gradient_add_args *k) { tt_gradient_add(k); }

void tt_gradient_add_s16(const void *args) {
    const tt_gradient_add_args *k = args;
    const int32_t a_exponent = tt_exponent_of(k->a_exponent, k->a_exponent_offset);
    const int32_t b_exponent = tt_exponent_of(k->b_exponent, k->b_exponent_offset);
    const int32_t smaller = tt_min(a_exponent, b_exponent), a_up = a_exponent - smaller, b_up = b_exponent - smaller;
    tt_exponent begun = *k->y_exponent;
    const int32_t right = tt_exponent_begin(&begun, TT_GRADIENT_BITS) - smaller;
    if (tt_max(a_up, b_up) > CLOSEST || right < 1 || right > 30) {
        add_any(k);
        return;
    }
    *k->y_exponent = begun;
    const sum_of of = {2U << a_up | 2U << (b_up + 16), 1 << (31 - right), right};
    const int whole_words = (((uintptr_t)k->a | (uintptr_t)k->b | (uintptr_t)k->y) & 3U) == 0;
    tt_watch watch;
    tt_watch_from(&watch, tt_known_peak(k->y_exponent, smaller), right);
    if (whole_words) { add_pairs(k, &of, &watch); }
    add_rest(k, &of, whole_words ? k->size & ~1 : 0, &watch);
    tt_exponent_end(k->y_exponent, watch.largest, smaller);
}
