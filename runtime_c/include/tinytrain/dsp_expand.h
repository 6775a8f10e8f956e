// SPDX-License-Identifier: Apache-2.0
// Bytes widened to pairs of int16, side by side as a tile of four pixels and two channels multiplies them: of each four
// bytes the even pairs, then the odd ones. On cores with the DSP instructions.
#ifndef TINYTRAIN_DSP_EXPAND_H
#define TINYTRAIN_DSP_EXPAND_H

#include "tinytrain/dsp.h"

enum { TT_PIXELS = 4, TT_CHANNELS = 2 };

// What becomes of pixels.
typedef struct tt_expansion {
    int32_t words;        // of each, an even number
    uint32_t minus_zero;  // a pair that is added
    int32_t twice;        // whether they are doubled then
} tt_expansion;

#define TT_PLAIN(pair)
#define TT_TWICE(pair) "sadd16 " #pair ", " #pair ", " #pair "\n\t"

// Pairs of four inputs of four pixels: the even ones, then the odd ones.
#define TT_EXPAND_FOUR(LENGTH)                          \
    "1:\t"                                              \
    "ldr r5, [%[x], %[pitch]]\n\t"                      \
    "ldr r6, [%[x], %[pitch], lsl #1]\n\t"              \
    "ldr r7, [%[x], %[last]]\n\t"                       \
    "ldr r4, [%[x]], #4\n\t"                            \
    "sxtab16 r8, %[zero], r4\n\t" LENGTH(r8)            \
    "sxtab16 r9, %[zero], r5\n\t" LENGTH(r9)            \
    "sxtab16 r10, %[zero], r6\n\t" LENGTH(r10)          \
    "sxtab16 r11, %[zero], r7\n\t" LENGTH(r11)          \
    "stm %[to]!, {r8-r11}\n\t"                          \
    "sxtab16 r4, %[zero], r4, ror #8\n\t" LENGTH(r4)    \
    "sxtab16 r5, %[zero], r5, ror #8\n\t" LENGTH(r5)    \
    "sxtab16 r6, %[zero], r6, ror #8\n\t" LENGTH(r6)    \
    "sxtab16 r7, %[zero], r7, ror #8\n\t" LENGTH(r7)    \
    "stm %[to]!, {r4-r7}\n\t"                           \
    "cmp %[x], %[end]\n\t"                              \
    "bne 1b\n\t"
#define TT_EXPAND_FOURS(LENGTH)                                                                         \
    __asm__ volatile(TT_EXPAND_FOUR(LENGTH)                                                             \
                     "ldr r4, %[next]\n\t"                                                              \
                     "add %[x], r4\n\t"                                                                 \
                     "add %[end], %[end], %[pitch], lsl #2\n\t"                                         \
                     "ldr r4, %[all]\n\t"                                                               \
                     "cmp %[x], r4\n\t"                                                                 \
                     "bne 1b"                                                                           \
                     : [x] "+&r"(x), [to] "+&r"(to), [end] "+&r"(end)                                   \
                     : [pitch] "r"(pitch), [last] "r"(3 * pitch), [zero] "r"(minus_zero), [next] "m"(next), \
                       [all] "m"(all)                                                                   \
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "cc", "memory")

// Groups of four pixels, `pitch` bytes from one pixel to the next.
TT_INNER_LOOP static void tt_expand_fours(const tt_expansion *pixel, const int8_t *x, int32_t pitch, int32_t fours,
                                          uint32_t *to) {
    const uint32_t minus_zero = pixel->minus_zero;
    const int8_t *end = x + 2 * pixel->words, *all = x + TT_PIXELS * pitch * fours;
    const int32_t next = TT_PIXELS * pitch - 2 * pixel->words;
    if (pixel->twice) {
        TT_EXPAND_FOURS(TT_TWICE);
    } else {
        TT_EXPAND_FOURS(TT_PLAIN);
    }
}

// A pixel by itself.
TT_INNER_LOOP static void tt_expand_one(const tt_expansion *pixel, const int8_t *x, uint32_t *to) {
    const uint32_t minus_zero = pixel->minus_zero;
    for (const uint32_t *end = to + pixel->words; to != end; x += 4, to += 2) {
        const uint32_t bytes = tt_load_bytes(x);
        uint32_t even = tt_add_even_pair(minus_zero, bytes), odd = tt_add_odd_pair(minus_zero, bytes);
        if (pixel->twice) {
            even = tt_add_pairs(even, even);
            odd = tt_add_pairs(odd, odd);
        }
        tt_store_two(to, 0, even, odd);
    }
}

// Weights of four inputs of both channels.
#define TT_EXPAND_WORD(LENGTH)                      \
    "ldr r6, [%[w0]], #4\n\t"                       \
    "ldr r7, [%[w1]], #4\n\t"                       \
    "sxtb16 r4, r6\n\t" LENGTH(r4)                  \
    "sxtb16 r5, r7\n\t" LENGTH(r5)                  \
    "sxtb16 r6, r6, ror #8\n\t" LENGTH(r6)          \
    "sxtb16 r7, r7, ror #8\n\t" LENGTH(r7)          \
    "stm %[to]!, {r4-r7}\n\t"
// Of eight, at addresses of whole words.
#define TT_EXPAND_TWO_WORDS                        \
    "ldrd r6, r10, [%[w0]], #8\n\t"                \
    "ldrd r7, r11, [%[w1]], #8\n\t"                \
    "sxtb16 r4, r6\n\t"                            \
    "sxtb16 r5, r7\n\t"                            \
    "sxtb16 r6, r6, ror #8\n\t"                    \
    "sxtb16 r7, r7, ror #8\n\t"                    \
    "sxtb16 r8, r10\n\t"                           \
    "sxtb16 r9, r11\n\t"                           \
    "sxtb16 r10, r10, ror #8\n\t"                  \
    "sxtb16 r11, r11, ror #8\n\t"                  \
    "stm %[to]!, {r4-r11}\n\t"
#define TT_EXPAND_WEIGHTS(text)                                               \
    __asm__ volatile(text                                                     \
                     : [w0] "+&r"(w0), [w1] "+&r"(w1), [to] "+&r"(to)         \
                     : [end] "r"(end)                                         \
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "cc", "memory")
#define TT_TO_END "cmp %[to], %[end]\n\tbne 1b"

// Weights of `count` inputs of both channels, a multiple of 4 and not 0.
TT_INNER_LOOP static void tt_expand_words(const int8_t *w0, const int8_t *w1, int32_t count, int32_t twice,
                                          uint32_t *to) {
    const uint32_t *end = to + count;
    if (twice) {
        TT_EXPAND_WEIGHTS("1:\t" TT_EXPAND_WORD(TT_TWICE) TT_TO_END);
    } else if ((((uintptr_t)w0 | (uintptr_t)w1) & 3) != 0) {
        TT_EXPAND_WEIGHTS("1:\t" TT_EXPAND_WORD(TT_PLAIN) TT_TO_END);
    } else {
        if ((count & 4) != 0) { TT_EXPAND_WEIGHTS(TT_EXPAND_WORD(TT_PLAIN)); }
        if ((count & 8) != 0) { TT_EXPAND_WEIGHTS(TT_EXPAND_TWO_WORDS); }
        if (to != end) { TT_EXPAND_WEIGHTS("1:\t" TT_EXPAND_TWO_WORDS TT_EXPAND_TWO_WORDS TT_TO_END); }
    }
}

#endif
