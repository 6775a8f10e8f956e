// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/add.h"
#include "tinytrain/vectors/output.h"

enum { RAISED = 1 << 20 };

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * RAISED, k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * RAISED, k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

#if TT_VECTOR_LANES > 1
static tt_vector raised(tt_vector x, int32_t zero_point, int32_t multiplier, int32_t shift) {
    return tt_requantize_vector((x - zero_point) * RAISED, tt_vector_of(multiplier), tt_vector_of(shift));
}

// As many whole vectors as there are; returns how many elements.
static int32_t add_vectors(const tt_add_s8_args *k) {
    int32_t i = 0;
    for (; i + TT_VECTOR_LANES <= k->size; i += TT_VECTOR_LANES) {
        const tt_vector b = k->b_step ? tt_load_s8(k->b + i) : tt_vector_of(*k->b);
        const tt_vector first = raised(tt_load_s8(k->a + i), k->a_zero_point, k->a_multiplier, k->a_shift);
        const tt_vector second = raised(b, k->b_zero_point, k->b_multiplier, k->b_shift);
        const tt_vector sum =
            tt_requantize_vector(first + second, tt_vector_of(k->y_multiplier), tt_vector_of(k->y_shift));
        tt_store_s8(tt_clamp_vector(sum + k->y_zero_point, k->clamp_low, k->clamp_high), k->y + i);
    }
    return i;
}
#endif

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
#if TT_VECTOR_LANES > 1
    int32_t i = add_vectors(k);
#else
    int32_t i = 0;
#endif
    const int8_t *b = k->b + i * k->b_step;
    for (; i < k->size; i++, b += k->b_step) { k->y[i] = sum_of(k, k->a[i], *b); }
}
