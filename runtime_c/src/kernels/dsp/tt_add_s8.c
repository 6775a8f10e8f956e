// SPDX-License-Identifier: Apache-2.0
// tt_add_s8: four elements at a time. One of the two tensors has the larger scale, and exactly 1/2 as its factor; the
// other's rounds in two steps, as the sum does (tinytrain/dsp_output.h).
#include "tinytrain/kernels/add.h"
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"

enum { EXACT = 1 << 30, AT_ONCE = 4 };

typedef struct work {
    uint32_t scaled_zero;  // minus zero point, raised by 21 bits
    int32_t multiplier, half, right;
    uint32_t exact_zero;   // minus zero point, raised by 20 bits
    tt_channel sum;
} work;

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * (1 << 20), k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * (1 << 20), k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

// Twice the sum, of bytes `place` of two words. A factor of 1/2 that is scaled, too, is a multiplier of all ones.
TT_ALWAYS_INLINE static inline int32_t twice_sum(const work *w, uint32_t scaled, uint32_t exact, int32_t place) {
    const int32_t a = (int8_t)(scaled >> 8 * place), b = (int8_t)(exact >> 8 * place);
    const int32_t raised = (int32_t)(w->scaled_zero + ((uint32_t)a << 21));
    const int32_t twice_b = (int32_t)(w->exact_zero + ((uint32_t)b << 20));
    int32_t t, sum;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(t) : "r"(raised), "r"(w->multiplier), "r"(w->half));
    t = (t + (raised >> 31)) >> w->right;
    __asm__("qdadd %0, %1, %2" : "=r"(sum) : "r"(twice_b), "r"(t));
    return sum;
}

TT_ALWAYS_INLINE static inline int8_t output(const tt_channel *c, int32_t twice_total) {
    int32_t y;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(y) : "r"(twice_total), "r"(c->multiplier), "r"(c->addend));
    y = (y + (twice_total >> 31)) >> c->right;
    __asm__("ssat %0, #8, %0" : "+r"(y));
    return (int8_t)y;
}

// Words of elements; of the exact tensor the same one again where its step is 0.
TT_INNER_LOOP static void add_words(const work *k, const int8_t *scaled, int32_t scaled_step, const int8_t *exact,
                                    int32_t exact_step, int8_t *y, int32_t words) {
    const work w = *k;
    for (; words > 0; words--, scaled += scaled_step, exact += exact_step, y += AT_ONCE) {
        const uint32_t a = tt_load_bytes(scaled), b = tt_load_bytes(exact);
        const int32_t s0 = twice_sum(&w, a, b, 0), s1 = twice_sum(&w, a, b, 1);
        const int32_t s2 = twice_sum(&w, a, b, 2), s3 = twice_sum(&w, a, b, 3);
        y[0] = output(&w.sum, s0);
        y[1] = output(&w.sum, s1);
        y[2] = output(&w.sum, s2);
        y[3] = output(&w.sum, s3);
    }
}

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
    const int b_exact = k->b_multiplier == EXACT && k->b_shift == 0;
    const int a_exact = k->a_multiplier == EXACT && k->a_shift == 0;
    const int32_t multiplier = b_exact ? k->a_multiplier : k->b_multiplier, shift = b_exact ? k->a_shift : k->b_shift;
    const int32_t right = -k->y_shift, both = shift == 0 && multiplier == EXACT;
    const int32_t same = (*k->b & 0xFF) * 0x01010101;  // where b is one element
    int32_t done = 0;
    if ((a_exact || b_exact) && (shift < 0 || both) && right >= 1 && right <= TT_MOST_RIGHT) {
        const int8_t *b = k->b_step ? k->b : (const int8_t *)&same;
        const int32_t b_step = k->b_step ? AT_ONCE : 0, scaled_right = both ? 1 : -shift;
        const int32_t scaled_zero = b_exact ? k->a_zero_point : k->b_zero_point;
        const int32_t exact_zero = b_exact ? k->b_zero_point : k->a_zero_point;
        const work w = {(uint32_t)-scaled_zero << 21, both ? INT32_MAX : multiplier, 1 << (scaled_right - 1),
                        scaled_right, (uint32_t)-exact_zero << 20,
                        {0, k->y_multiplier, (2 * k->y_zero_point + 1) * (1 << (right - 1)), right}};
        const tt_output clamp = {0, 0, 0, 0, k->clamp_low, k->clamp_high, 0};
        const int32_t words = (int32_t)((uint32_t)k->size / AT_ONCE);
        done = words * AT_ONCE;
        if (b_exact) {
            add_words(&w, k->a, AT_ONCE, b, b_step, k->y, words);
        } else {
            add_words(&w, b, b_step, k->a, AT_ONCE, k->y, words);
        }
        tt_clamp_outputs(&clamp, k->y, done);
    }
    for (; done < k->size; done++) { k->y[done] = sum_of(k, k->a[done], k->b[done * k->b_step]); }
}
