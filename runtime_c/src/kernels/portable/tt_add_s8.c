// SPDX-License-Identifier: Apache-2.0
// tt_add_s8 for a scalar core. Where the scales are as planned, the operand of the larger scale is halved exactly, and
// what is left is one long multiplication for the other one and one for the sum.
#include "tinytrain/kernels/add.h"
#include "tinytrain/portable.h"

enum { RAISED = 20, HALF = 1 << 30 };

// One operand, and which one is halved.
typedef struct operands {
    const int8_t *halved, *scaled;
    int32_t halved_step, scaled_step;
    int32_t zero_point, multiplier, right;  // of the scaled one
    int32_t offset;                         // the halved one's zero point, raised and halved
} operands;

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t raised = 1 << RAISED;
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * raised, k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * raised, k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

static operands operands_of(const tt_add_s8_args *k) {
    const operands a_halved = {k->a, k->b, 1, k->b_step, k->b_zero_point, k->b_multiplier, -k->b_shift,
                               -k->a_zero_point * (1 << (RAISED - 1))};
    const operands b_halved = {k->b, k->a, k->b_step, 1, k->a_zero_point, k->a_multiplier, -k->a_shift,
                               -k->b_zero_point * (1 << (RAISED - 1))};
    return k->a_multiplier == HALF && k->a_shift == 0 ? a_halved : b_halved;
}

// Rounded as tt_rounding_divide_by_power_of_two does; ties: 0 where right is 0, else all ones.
static inline int32_t divided(int32_t x, int32_t half, int32_t ties, int32_t right) {
    return (x + ((x >> 31) & ties) + half) >> right;
}

TT_INNER_LOOP static void add_all(const tt_add_s8_args *k, const operands *o) {
    const int8_t *halved = o->halved, *scaled = o->scaled;
    const int32_t half = o->right > 0 ? 1 << (o->right - 1) : 0, ties = o->right > 0 ? -1 : 0;
    const int32_t y_right = -k->y_shift, addend = (1 << (y_right - 1)) + k->y_zero_point * (1 << y_right);
    int8_t *y = k->y;
    for (int32_t left = k->size; left > 0; left--, halved += o->halved_step, scaled += o->scaled_step) {
        const int32_t high = tt_rounded_upper((*scaled - o->zero_point) * (2 << RAISED), o->multiplier);
        const int32_t sum = divided(high, half, ties, o->right) + *halved * (1 << (RAISED - 1)) + o->offset;
        const int32_t value = tt_rounded_upper(2 * sum, k->y_multiplier);
        *y++ = (int8_t)tt_saturate8((value + (value >> 31) + addend) >> y_right);
    }
}

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
    const operands o = operands_of(k);
    const int exact = (k->a_multiplier == HALF && k->a_shift == 0) || (k->b_multiplier == HALF && k->b_shift == 0);
    const int whole = k->clamp_low == INT8_MIN && k->clamp_high == INT8_MAX;
    if (exact && whole && o.right >= 0 && o.right <= 29 && k->y_shift <= -1 && k->y_shift >= -22) {
        add_all(k, &o);
        return;
    }
    for (int32_t i = 0; i < k->size; i++) { k->y[i] = sum_of(k, k->a[i], k->b[i * k->b_step]); }
}
