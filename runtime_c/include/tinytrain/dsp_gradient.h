// SPDX-License-Identifier: Apache-2.0
// What the kernels of training are made of on cores with DSP instructions (Cortex-M4, M7, M33): pairs of int16 in a
// word, and the inner loop of matrix products.
#ifndef TINYTRAIN_DSP_GRADIENT_H
#define TINYTRAIN_DSP_GRADIENT_H

#include <arm_acle.h>
#include <string.h>

#include "tinytrain/gradient.h"

// Four bytes from any address.
static inline uint32_t tt_word_at(const void *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static inline void tt_put_word(void *to, uint32_t word) { memcpy(to, &word, sizeof word); }

// gcc finds these instructions in C only by luck.
static inline uint32_t tt_pair_of_lows(uint32_t first, uint32_t second) {
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(first), "r"(second));
    return pair;
}

static inline uint32_t tt_pair_of_highs(uint32_t first, uint32_t second) {
    uint32_t pair;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(pair) : "r"(second), "r"(first));
    return pair;
}

// Bytes 0 and 2, or 1 and 3, as int16, each plus one of a pair.
static inline uint32_t tt_even_bytes(uint32_t word) {
    uint32_t pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}

static inline uint32_t tt_odd_bytes(uint32_t word) {
    uint32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

static inline uint32_t tt_even_bytes_plus(uint32_t pair, uint32_t word) {
    uint32_t sums;
    __asm__("sxtab16 %0, %1, %2" : "=r"(sums) : "r"(pair), "r"(word));
    return sums;
}

static inline uint32_t tt_odd_bytes_plus(uint32_t pair, uint32_t word) {
    uint32_t sums;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sums) : "r"(pair), "r"(word));
    return sums;
}

// floor(a b / 2^32), and floor(a b / 2^32 + 1/2)
static inline int32_t tt_high_word(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b) >> 32); }

static inline int32_t tt_rounded_high_word(int32_t a, int32_t b) {
    int32_t high;
    __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
    return high;
}

static inline int32_t tt_saturate16(int32_t x) {
    int32_t held;
    __asm__("ssat %0, #16, %1" : "=r"(held) : "r"(x));
    return held;
}

static inline uint32_t tt_saturated_pair(int32_t first, int32_t second) {
    return tt_pair_of_lows((uint32_t)tt_saturate16(first), (uint32_t)tt_saturate16(second));
}

// --- the largest magnitude ---
// A kernel has to know the largest exact value, but looks at it only where the mantissa says that it may be the largest:
// in a pair of mantissas, the squares of which reach that of `mantissa`, the lowest a larger value is rounded to.
typedef struct tt_watch {
    uint64_t largest;
    int32_t minus_square;  // -(mantissa^2)
} tt_watch;

static inline void tt_watch_from(tt_watch *watch, uint64_t largest, int32_t right) {
    const uint64_t mantissa = largest >> right;
    const int32_t held = mantissa > 32767 ? 32767 : (int32_t)mantissa;
    watch->largest = largest;
    watch->minus_square = -held * held;
}

// Negative where neither mantissa of a pair can belong to a larger value; to be combined with &. Where minus_square is 0
// nothing is known yet: see tt_watch_hit.
static inline int32_t tt_watched(const tt_watch *watch, uint32_t pair) {
    return __smlad((int16x2_t)pair, (int16x2_t)pair, watch->minus_square);
}

static inline int tt_watch_hit(const tt_watch *watch, int32_t combined) {
    return (combined & watch->minus_square) >= 0;
}

// Exact values whose mantissas were a hit.
TT_INNER_LOOP static void tt_watch_sums(tt_watch *watch, const int32_t *sums, int32_t count, int32_t right) {
    uint64_t largest = watch->largest;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t magnitude = tt_magnitude(sums[i]);
        if (magnitude > largest) { largest = magnitude; }
    }
    tt_watch_from(watch, largest, right);
}

// --- products of matrices ---

enum { TT_DOT_ROWS = 4, TT_DOT_COLUMNS = 2, TT_DOT_SUMS = TT_DOT_ROWS * TT_DOT_COLUMNS };

// sums[r][c] = sum over pairs of a[pair][r] * b[pair][c], both products of each pair of int16; `pairs` is even. The sum
// fits 32 bits. 8 sums, 2 + 2 operands and 2 pointers are all registers there are: the ends lie on the stack.
TT_INNER_LOOP static void tt_dot(const uint32_t *a, const uint32_t *b, int32_t pairs, int32_t *sums) {
    const uint32_t *const last_eight = a + TT_DOT_ROWS * (pairs & ~7);
    const uint32_t *const end = a + TT_DOT_ROWS * pairs;
#define TT_ONE_PAIR                   \
    "ldrd   r2, r3, [%[b]], #8\n\t"   \
    "ldrd   r12, lr, [%[a]], #8\n\t"  \
    "smlad  r4, r12, r2, r4\n\t"      \
    "smlad  r5, r12, r3, r5\n\t"      \
    "smlad  r6, lr, r2, r6\n\t"       \
    "smlad  r7, lr, r3, r7\n\t"       \
    "ldrd   r12, lr, [%[a]], #8\n\t"  \
    "smlad  r8, r12, r2, r8\n\t"      \
    "smlad  r9, r12, r3, r9\n\t"      \
    "smlad  r10, lr, r2, r10\n\t"     \
    "smlad  r11, lr, r3, r11\n\t"
    __asm__ volatile(
        "movs   r4, #0\n\t"
        "movs   r5, #0\n\t"
        "movs   r6, #0\n\t"
        "movs   r7, #0\n\t"
        "mov    r8, #0\n\t"
        "mov    r9, #0\n\t"
        "mov    r10, #0\n\t"
        "mov    r11, #0\n\t"
        "ldr    r12, %[last_eight]\n\t"
        "cmp    %[a], r12\n\t"
        "beq    2f\n"
        "1:\n\t"
        TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR
        "ldr    r12, %[last_eight]\n\t"
        "cmp    %[a], r12\n\t"
        "bne    1b\n"
        "2:\n\t"
        "ldr    r12, %[end]\n\t"
        "cmp    %[a], r12\n\t"
        "beq    4f\n"
        "3:\n\t"
        TT_ONE_PAIR TT_ONE_PAIR
        "ldr    r12, %[end]\n\t"
        "cmp    %[a], r12\n\t"
        "bne    3b\n"
        "4:\n\t"
        "ldr    r12, %[sums]\n\t"
        "stm    r12, {r4-r11}\n\t"
        : [a] "+r"(a), [b] "+r"(b)
        : [last_eight] "m"(last_eight), [end] "m"(end), [sums] "m"(sums)
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
#undef TT_ONE_PAIR
}

// totals += the same, of any length: exact where each run of `fitting` pairs (an even number) fits 32 bits.
static inline void tt_dot_wide(const uint32_t *a, const uint32_t *b, int32_t pairs, int32_t fitting, int64_t *totals) {
    for (int32_t start = 0; start < pairs; start += fitting) {
        int32_t sums[TT_DOT_SUMS];
        tt_dot(a + TT_DOT_ROWS * start, b + TT_DOT_COLUMNS * start, tt_min(fitting, pairs - start), sums);
        for (int32_t i = 0; i < TT_DOT_SUMS; i++) { totals[i] += sums[i]; }
    }
}

#endif
