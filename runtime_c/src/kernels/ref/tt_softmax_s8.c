// SPDX-License-Identifier: Apache-2.0
// tt_softmax_s8: each exponential is computed twice, for the sum and for the quotient, so that no row of them is kept.
#include "tinytrain/kernels/softmax.h"
#include "tinytrain/arithmetic.h"

enum { QUARTER = 1 << 24, EIGHTH = 1 << 28, ONE = 1 << 29, ONE_THIRD = 715827883, EXP_MINUS_EIGHTH = 1895147668 };

static int32_t high_product(int32_t a, int32_t b) { return tt_requantize_double(a, b, 0); }

// exp(a / 2^26) in 31 bits for a <= 0: a Taylor series around -1/8 for the part in [-1/4, 0), then powers of e.
static int32_t exp_of_negative(int32_t a) {
    static const int32_t powers[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    if (a == 0) { return INT32_MAX; }
    const int32_t low = (a & (QUARTER - 1)) - QUARTER;
    const int32_t x = low * 32 + EIGHTH;
    const int32_t x2 = high_product(x, x), x3 = high_product(x2, x), x4 = high_product(x2, x2);
    const int32_t thirds = high_product(tt_rounding_divide_by_power_of_two(x4, 2) + x3, ONE_THIRD);
    const int32_t series = x + tt_rounding_divide_by_power_of_two(thirds + x2, 1);
    const int32_t rest = low - a;
    int32_t result = EXP_MINUS_EIGHTH + high_product(series, EXP_MINUS_EIGHTH);
    for (int32_t i = 0; i < 7; i++) {
        if (rest & (QUARTER << i)) { result = high_product(result, powers[i]); }
    }
    return result;
}

static int32_t scaled_exp(const tt_softmax_s8_args *k, int32_t difference) {
    return exp_of_negative(high_product((int32_t)((uint32_t)difference << k->shift), k->multiplier));
}

// 2^19 / total = result / 2^31 * 2^(20 - bits of total), by three Newton steps; total in [2^19, 2^31).
static int32_t reciprocal(int32_t total, int32_t bits) {
    const int32_t half = (int32_t)(((uint32_t)total << (32 - bits)) >> 1);  // half the denominator, in [1/2, 1)
    int32_t x = 1515870810 + high_product(half, -1010580540);
    for (int32_t i = 0; i < 3; i++) { x += high_product(x, ONE - high_product(half, x)) * 4; }
    return tt_saturate32((int64_t)x * 2);
}

static void softmax_row(const tt_softmax_s8_args *k, const int8_t *x, int8_t *y) {
    int32_t largest = x[0], total = 0;
    for (int32_t i = 1; i < k->columns; i++) { largest = tt_max(largest, x[i]); }
    for (int32_t i = 0; i < k->columns; i++) {
        const int32_t difference = x[i] - largest;
        if (difference >= k->smallest) { total += tt_rounding_divide_by_power_of_two(scaled_exp(k, difference), 12); }
    }
    const int32_t bits = tt_bit_length((uint64_t)(uint32_t)total);
    const int32_t inverse = reciprocal(total, bits), right = bits - 20 + 31 - 8;
    for (int32_t i = 0; i < k->columns; i++) {
        const int32_t difference = x[i] - largest;
        int32_t value = 0;
        if (difference >= k->smallest && right <= 31) {
            value = tt_rounding_divide_by_power_of_two(high_product(scaled_exp(k, difference), inverse), right);
        }
        y[i] = (int8_t)tt_min(value - 128, 127);
    }
}

void tt_softmax_s8(const void *args) {
    const tt_softmax_s8_args *k = args;
    for (int32_t row = 0; row < k->rows; row++) {
        softmax_row(k, k->x + row * k->columns, k->y + row * k->columns);
    }
}
