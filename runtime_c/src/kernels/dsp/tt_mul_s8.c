// SPDX-License-Identifier: Apache-2.0
// tt_mul_s8: four elements at a time, as pairs of int16.
#include "tinytrain/kernels/mul.h"
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"

typedef struct work {
    const tt_mul_s8_args *args;
    tt_channel y;  // twice_bias is not used
} work;

// Twice a product, as an output.
TT_ALWAYS_INLINE static inline int8_t output(const tt_channel *c, int32_t twice) {
    int32_t y;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(y) : "r"(twice), "r"(c->multiplier), "r"(c->addend));
    y = (y + (twice >> 31)) >> c->right;
    __asm__("ssat %0, #8, %0" : "+r"(y));
    return (int8_t)y;
}

// Products of the first, of the second elements of two pairs.
static inline int32_t low_product(uint32_t a, uint32_t b) {
    int32_t product;
    __asm__("smulbb %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

static inline int32_t high_product(uint32_t a, uint32_t b) {
    int32_t product;
    __asm__("smultt %0, %1, %2" : "=r"(product) : "r"(a), "r"(b));
    return product;
}

static inline uint32_t twice_pair(uint32_t pair) {
    __asm__("sadd16 %0, %0, %0" : "+r"(pair));
    return pair;
}

// Words of elements of y; those of b may be the same one again.
TT_INNER_LOOP static void multiply_words(const work *k, const int8_t *a, const int8_t *b, int32_t b_step, int8_t *y,
                                         int32_t words) {
    const uint32_t minus_a = tt_pair_of(-k->args->a_zero_point), minus_b = tt_pair_of(-k->args->b_zero_point);
    const tt_channel c = k->y;
    for (const int8_t *end = a + 4 * words; a != end; a += 4, b += b_step, y += 4) {
        const uint32_t a_bytes = tt_load_bytes(a), b_bytes = tt_load_bytes(b);
        const uint32_t even = twice_pair(tt_add_even_pair(minus_a, a_bytes));
        const uint32_t odd = twice_pair(tt_add_odd_pair(minus_a, a_bytes));
        const uint32_t b_even = tt_add_even_pair(minus_b, b_bytes), b_odd = tt_add_odd_pair(minus_b, b_bytes);
        y[0] = output(&c, low_product(even, b_even));
        y[1] = output(&c, low_product(odd, b_odd));
        y[2] = output(&c, high_product(even, b_even));
        y[3] = output(&c, high_product(odd, b_odd));
    }
}

static void multiply_each(const tt_mul_s8_args *k, const int8_t *a, const int8_t *b, int32_t b_step, int8_t *y,
                          int32_t count) {
    for (int32_t i = 0; i < count; i++, b += b_step) {
        const int32_t product = (a[i] - k->a_zero_point) * (*b - k->b_zero_point);
        const int32_t value = tt_requantize_double(product, k->y_multiplier, k->y_shift) + k->y_zero_point;
        y[i] = (int8_t)tt_clamp(value, k->clamp_low, k->clamp_high);
    }
}

void tt_mul_s8(const void *args) {
    const tt_mul_s8_args *k = args;
    const int32_t right = -k->y_shift, fast = right >= 1 && right <= TT_MOST_RIGHT;
    const int32_t repeat = k->b_size == 1, row = repeat ? k->size : k->b_size, words = fast ? row >> 2 : 0;
    const int32_t same = (*k->b & 0xFF) * 0x01010101;
    const int8_t *b = repeat ? (const int8_t *)&same : k->b;
    const work w = {k, {0, k->y_multiplier, fast ? (2 * k->y_zero_point + 1) * (1 << (right - 1)) : 0, right}};
    const tt_output clamp = {0, 0, 0, 0, k->clamp_low, k->clamp_high, 0};
    for (int32_t start = 0; start < k->size; start += row) {
        const int8_t *a = k->a + start;
        int8_t *y = k->y + start;
        const int32_t done = 4 * words;
        if (words > 0) { multiply_words(&w, a, b, repeat ? 0 : 4, y, words); }
        if (done < row) { multiply_each(k, a + done, repeat ? b : b + done, repeat ? 0 : 1, y + done, row - done); }
    }
    tt_clamp_outputs(&clamp, k->y, k->size);
}
