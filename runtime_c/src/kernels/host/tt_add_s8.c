// SPDX-License-Identifier: Apache-2.0
// tt_add_s8 for hosts: vectors of elements. |differences| raised by 20 bits, and doubled, fit 32 bits.
#include "tinytrain/kernels/add.h"
#include "tinytrain/vectors/output.h"

enum { RAISED = 1 << 20 };

// What one requantization to the right takes; a shift of 0 rounds no second time.
typedef struct scaling {
    int32_t multiplier, half, ties, right;
} scaling;

static scaling scaling_of(int32_t multiplier, int32_t shift) {
    const int32_t right = -shift;
    const scaling exact = {multiplier, 0, 0, 0}, rounded = {multiplier, right > 0 ? 1 << (right - 1) : 0, -1, right};
    return right > 0 ? rounded : exact;
}

// tt_requantize_double of x, given 2 x.
static inline tt_vector scaled(tt_vector twice, const scaling *s) {
    const tt_vector high = tt_high_words(twice, tt_vector_of(s->multiplier));
    return (high + ((high >> 31) & s->ties) + s->half) >> s->right;
}

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * RAISED, k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * RAISED, k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

// As many whole vectors as there are; returns how many elements.
static int32_t add_vectors(const tt_add_s8_args *k) {
    const scaling a = scaling_of(k->a_multiplier, k->a_shift), b = scaling_of(k->b_multiplier, k->b_shift);
    const scaling y = scaling_of(k->y_multiplier, k->y_shift);
    int32_t i = 0;
    for (; i + TT_VECTOR_LANES <= k->size; i += TT_VECTOR_LANES) {
        const tt_vector second = k->b_step ? tt_load_s8(k->b + i) : tt_vector_of(*k->b);
        const tt_vector sum = scaled((tt_load_s8(k->a + i) - k->a_zero_point) * (2 * RAISED), &a) +
                              scaled((second - k->b_zero_point) * (2 * RAISED), &b);
        const tt_vector value = scaled(sum + sum, &y) + k->y_zero_point;
        tt_store_s8(tt_clamp_vector(value, k->clamp_low, k->clamp_high), k->y + i, TT_VECTOR_LANES);
    }
    return i;
}

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
    const int fits = k->a_shift <= 0 && k->a_shift >= -30 && k->b_shift <= 0 && k->b_shift >= -30 && k->y_shift <= 0 &&
                     k->y_shift >= -30;
    for (int32_t i = fits ? add_vectors(k) : 0; i < k->size; i++) {
        k->y[i] = sum_of(k, k->a[i], k->b[i * k->b_step]);
    }
}
