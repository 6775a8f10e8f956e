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

// Weights of four inputs of both channels: the even pairs, then the odd ones.
#define TT_EXPAND_WORD(LENGTH)                      \
    "ldr r12, [%[w0]], #4\n\t"                      \
    "ldr lr, [%[w1]], #4\n\t"                       \
    "sxtb16 r4, r12\n\t" LENGTH(r4)                 \
    "sxtb16 r5, lr\n\t" LENGTH(r5)                  \
    "sxtb16 r12, r12, ror #8\n\t" LENGTH(r12)       \
    "sxtb16 lr, lr, ror #8\n\t" LENGTH(lr)          \
    "stm %[to]!, {r4, r5, r12, lr}\n\t"
#define TT_EXPAND_WEIGHTS(words)                                            \
    __asm__ volatile(words                                                  \
                     : [w0] "+&r"(w0), [w1] "+&r"(w1), [to] "+&r"(to)       \
                     :                                                      \
                     : "r4", "r5", "r12", "lr", "memory")

// Weights of `count` inputs of both channels, a multiple of 4, from a multiple of 4 on.
TT_INNER_LOOP static void tt_expand_words(const int8_t *w0, const int8_t *w1, int32_t count, int32_t twice,
                                          uint32_t *to) {
    const uint32_t *end = to + count;
    if (twice) {
        while (to != end) { TT_EXPAND_WEIGHTS(TT_EXPAND_WORD(TT_TWICE)); }
        return;
    }
    for (; (count & 12) != 0; count -= 4) { TT_EXPAND_WEIGHTS(TT_EXPAND_WORD(TT_PLAIN)); }
    while (to != end) {
        TT_EXPAND_WEIGHTS(TT_EXPAND_WORD(TT_PLAIN) TT_EXPAND_WORD(TT_PLAIN) TT_EXPAND_WORD(TT_PLAIN)
                              TT_EXPAND_WORD(TT_PLAIN));
    }
}

#endif
