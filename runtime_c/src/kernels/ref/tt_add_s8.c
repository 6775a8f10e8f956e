// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/add.h"
#include "tinytrain/arithmetic.h"

enum { RAISED = 1 << 20 };

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * RAISED, k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * RAISED, k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
    const int8_t *b = k->b;
    for (int32_t i = 0; i < k->size; i++, b += k->b_step) { k->y[i] = sum_of(k, k->a[i], *b); }
}
