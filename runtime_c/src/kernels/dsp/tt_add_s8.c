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

TT_RARE static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * (1 << 20), k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * (1 << 20), k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

// The sum of a byte of two words. A factor of 1/2 that is scaled, too, is a multiplier of all ones.
#define ELEMENT(at)                                             \
    "sbfx %[t], %[a], #" #at ", #8\n\t"                         \
    "add %[t], %[scaled_zero], %[t], lsl #21\n\t"               \
    "smmlar %[u], %[t], %[multiplier], %[half]\n\t"             \
    "add %[u], %[u], %[t], asr #31\n\t"                         \
    "asr %[u], %[u], %[right]\n\t"                              \
    "sbfx %[t], %[b], #" #at ", #8\n\t"                         \
    "add %[t], %[exact_zero], %[t], lsl #20\n\t"                \
    "qdadd %[t], %[t], %[u]\n\t"                                \
    "smmlar %[u], %[t], %[y_multiplier], %[addend]\n\t"         \
    "add %[u], %[u], %[t], asr #31\n\t"                         \
    "asr %[u], %[u], %[y_right]\n\t"                            \
    "ssat %[u], #8, %[u]\n\t"                                   \
    "strb %[u], [%[y]], #1\n\t"

// At least one word of elements. No register is left for where the exact ones lie, seen from the scaled ones.
TT_INNER_LOOP static void add_words(const work *w, const int8_t *scaled, const int8_t *exact, int8_t *y,
                                    int32_t words) {
    const uint32_t to_exact = (uint32_t)exact - (uint32_t)scaled;
    const int8_t *end = y + AT_ONCE * words;
    uint32_t a, b, t, u;
    __asm__ volatile("1:\t"
                     "ldr %[b], %[to_exact]\n\t"
                     "ldr %[b], [%[x], %[b]]\n\t"
                     "ldr %[a], [%[x]], #4\n\t" ELEMENT(0) ELEMENT(8) ELEMENT(16) ELEMENT(24)
                     "ldr %[b], %[end]\n\t"
                     "cmp %[y], %[b]\n\t"
                     "bne 1b"
                     : [x] "+r"(scaled), [y] "+r"(y), [a] "=&r"(a), [b] "=&r"(b), [t] "=&r"(t), [u] "=&r"(u)
                     : [to_exact] "m"(to_exact), [end] "m"(end), [scaled_zero] "r"(w->scaled_zero),
                       [multiplier] "r"(w->multiplier), [half] "r"(w->half), [right] "r"(w->right),
                       [exact_zero] "r"(w->exact_zero), [y_multiplier] "r"(w->sum.multiplier),
                       [addend] "r"(w->sum.addend), [y_right] "r"(w->sum.right)
                     : "cc", "memory");
}

// Of one of the tensors the same word again where its step is 0.
static void add_all(const work *w, const int8_t *scaled, int32_t scaled_step, const int8_t *exact, int32_t exact_step,
                    int8_t *y, int32_t words) {
    const int32_t at_once = scaled_step == exact_step ? words : 1;
    for (; words > 0; words -= at_once, scaled += scaled_step, exact += exact_step, y += AT_ONCE) {
        add_words(w, scaled, exact, y, at_once);
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
            add_all(&w, k->a, AT_ONCE, b, b_step, k->y, words);
        } else {
            add_all(&w, b, b_step, k->a, AT_ONCE, k->y, words);
        }
        tt_clamp_outputs(&clamp, k->y, done);
    }
    for (; done < k->size; done++) { k->y[done] = sum_of(k, k->a[done], k->b[done * k->b_step]); }
}
