// SPDX-License-Identifier: Apache-2.0
// What the kernels of training are made of on cores with DSP instructions (Cortex-M4, M7, M33): pairs of int16 in a
// word, and the inner loop of matrix products.
#ifndef TINYTRAIN_DSP_GRADIENT_H
#define TINYTRAIN_DSP_GRADIENT_H

#include "tinytrain/dsp.h"
#include "tinytrain/gradient.h"

// An inner loop that not every kernel has a use for.
#define TT_SHARED_LOOP __attribute__((noinline, unused))

static inline uint32_t tt_half_at(const void *from) {
    uint16_t half;
    memcpy(&half, from, sizeof half);
    return half;
}

// Two words from, or to, a multiple of 4, and the pointer behind them.
static inline void tt_take_two(const uint32_t **from, uint32_t *first, uint32_t *second) {
    __asm__("ldrd %0, %1, [%2], #8"
            : "=r"(*first), "=r"(*second), "+r"(*from)
            : "m"(*(const uint32_t(*)[2]) * from));
}

static inline void tt_put_two(uint32_t **to, uint32_t first, uint32_t second) {
    __asm__("strd %2, %3, [%0], #8" : "+r"(*to), "=m"(*(uint32_t(*)[2]) * to) : "r"(first), "r"(second));
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
    return tt_firsts((uint32_t)tt_saturate16(first), (uint32_t)tt_saturate16(second));
}

// --- the largest magnitude ---
// A kernel has to know the largest exact value, but looks at it only where the mantissa says that it may be the
// largest: in a pair of mantissas, the squares of which reach that of `mantissa`, the lowest a larger value is rounded
// to.
typedef struct tt_watch {
    uint64_t largest;
    int32_t minus_square;  // -(mantissa^2)
} tt_watch;

// The peak of earlier steps in units of 2^values_exponent, rounded down: what is no larger changes nothing.
static inline uint64_t tt_known_peak(const tt_exponent *state, int32_t values_exponent) {
    const int32_t up = state->peak_exponent - values_exponent;
    const uint64_t peak = (uint32_t)state->peak_mantissa;
    return up >= 0 ? peak << tt_min(up, 31) : peak >> tt_min(-up, 31);
}

static inline void tt_watch_from(tt_watch *watch, uint64_t largest, int32_t right) {
    const uint64_t mantissa = largest >> right;
    const int32_t held = mantissa > 32767 ? 32767 : (int32_t)mantissa;
    watch->largest = largest;
    watch->minus_square = -held * held;
}

// Negative where neither mantissa of a pair can belong to a larger value; to be combined with & for several pairs, and
// with minus_square: where that is 0 nothing is known yet.
static inline int32_t tt_watched(uint32_t pair, int32_t minus_square) {
    return __smlad((int16x2_t)pair, (int16x2_t)pair, minus_square);
}

// Exact values whose mantissas were a hit.
TT_SHARED_LOOP static void tt_watch_sums(tt_watch *watch, const int32_t *sums, int32_t count, int32_t right) {
    uint32_t largest = (uint32_t)watch->largest;  // of 32-bit sums like these
    for (int32_t i = 0; i < count; i++) {
        const uint32_t magnitude = sums[i] < 0 ? 0U - (uint32_t)sums[i] : (uint32_t)sums[i];
        if (magnitude > largest) { largest = magnitude; }
    }
    if (largest > watch->largest) { tt_watch_from(watch, largest, right); }
}

// --- products of matrices ---

enum { TT_DOT_ROWS = 4, TT_DOT_COLUMNS = 2, TT_DOT_SUMS = TT_DOT_ROWS * TT_DOT_COLUMNS };

// How many words lie between two columns' pairs: 2, or 4 where four columns are packed together.
#ifndef TT_COLUMN_WORDS
#define TT_COLUMN_WORDS 2
#endif

// Rows of a matrix, four at a time, times two columns of another: sums of products of pairs of int16. Four rows are
// `pairs` times 4 words, and then 4 more, the places of their results. Two columns are `pairs` times 2 words.
typedef struct tt_product_of {
    const uint32_t *rows, *rows_end;
    const uint32_t *columns;
    int32_t pairs;         // one at least
    int32_t *sums;         // [4 rows][2 columns], of the last four rows; they fit 32 bits
    int16_t *to;           // a row's two mantissas lie this much plus its place (in bytes) in memory
    int32_t scale;         // 2^(32 - rounding shift): the rounded high word of its product with a sum is the mantissa
    int32_t minus_square;  // of the watch
} tt_product_of;

// 8 sums, 4 operands and 2 pointers are all registers there are, so the rest lies on the stack.
#define TT_TEXT_OF(number) #number
#define TT_TEXT(number) TT_TEXT_OF(number)
#define TT_TWO_COLUMNS "ldrd r2, r3, [%[b]], #4*" TT_TEXT(TT_COLUMN_WORDS) "\n\t"
#define TT_ONE_PAIR                   \
    TT_TWO_COLUMNS                    \
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
#define TT_FOUR_PAIRS TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR TT_ONE_PAIR
enum { TT_PAIR_BYTES = 44, TT_UNROLLED_PAIRS = 16 };  // of its instructions; of the loop

// Multiplies and stores rows until four are a hit of the watch (then the result is not negative, the rows are those
// behind them, and their sums are stored too) or there are no more. With a scale of 0 it only sums up four rows.
//
// The first pair starts the sums; then a jump into the loop takes what is no whole round of it.
TT_SHARED_LOOP static int32_t tt_multiply(tt_product_of *product) {
    const tt_product_of p = *product;
    const uint32_t *a = p.rows, *b = p.columns;
    const uint32_t *const end = b + TT_COLUMN_WORDS * p.pairs;
    const uint32_t rest = (uint32_t)(p.pairs - 1) % TT_UNROLLED_PAIRS;
    uint32_t entry = 1U - TT_PAIR_BYTES * rest;  // before 3; the 1 stands for Thumb
    int32_t first[2];                            // sums
    __asm__ volatile(
        "ldr    r2, %[entry]\n\t"
        "adr.w  r3, 3f\n\t"
        "add    r2, r3\n\t"
        "str    r2, %[entry]\n"
        "1:\n\t"
        "ldr    %[b], %[columns]\n\t"
        TT_TWO_COLUMNS
        "ldrd   r12, lr, [%[a]], #8\n\t"
        "smuad  r4, r12, r2\n\t"
        "smuad  r5, r12, r3\n\t"
        "smuad  r6, lr, r2\n\t"
        "smuad  r7, lr, r3\n\t"
        "ldrd   r12, lr, [%[a]], #8\n\t"
        "smuad  r8, r12, r2\n\t"
        "smuad  r9, r12, r3\n\t"
        "smuad  r10, lr, r2\n\t"
        "smuad  r11, lr, r3\n\t"
        "ldr    pc, %[entry]\n"
        "2:\n\t"
        TT_FOUR_PAIRS TT_FOUR_PAIRS TT_FOUR_PAIRS TT_FOUR_PAIRS
        "3:\n\t"
        "ldr    r12, %[end]\n\t"
        "cmp    %[b], r12\n\t"
        "bne.w  2b\n\t"
        "ldr    r2, %[scale]\n\t"
        "cbnz   r2, 5f\n"
        "4:\n\t"
        "ldr    r12, %[sums]\n\t"
        "stm    r12, {r4-r11}\n\t"
        "b      7f\n"
        "5:\n\t"
        "smmulr r3, r4, r2\n\t"
        "smmulr r12, r5, r2\n\t"
        "strd   r4, r5, %[first]\n\t"
        "smmulr r4, r6, r2\n\t"
        "smmulr r5, r7, r2\n\t"
        "smmulr lr, r8, r2\n\t"
        "smmulr %[b], r9, r2\n\t"
        "ssat   r3, #16, r3\n\t"
        "ssat   r12, #16, r12\n\t"
        "ssat   r4, #16, r4\n\t"
        "ssat   r5, #16, r5\n\t"
        "ssat   lr, #16, lr\n\t"
        "ssat   %[b], #16, %[b]\n\t"
        "pkhbt  r3, r3, r12, lsl #16\n\t"
        "pkhbt  r4, r4, r5, lsl #16\n\t"
        "pkhbt  lr, lr, %[b], lsl #16\n\t"
        "smmulr r5, r10, r2\n\t"
        "smmulr r2, r11, r2\n\t"
        "ssat   r5, #16, r5\n\t"
        "ssat   r2, #16, r2\n\t"
        "pkhbt  r5, r5, r2, lsl #16\n\t"
        "ldr    %[b], %[to]\n\t"
        "ldrd   r2, r12, [%[a]], #8\n\t"
        "str    r3, [%[b], r2]\n\t"
        "str    r4, [%[b], r12]\n\t"
        "ldrd   r2, r12, [%[a]], #8\n\t"
        "str    lr, [%[b], r2]\n\t"
        "str    r5, [%[b], r12]\n\t"
        "ldr    %[b], %[minus_square]\n\t"
        "smlad  r3, r3, r3, %[b]\n\t"
        "smlad  r4, r4, r4, %[b]\n\t"
        "smlad  lr, lr, lr, %[b]\n\t"
        "smlad  r5, r5, r5, %[b]\n\t"
        "ands   %[b], r3\n\t"
        "ands   r4, r5\n\t"
        "and    r4, r4, lr\n\t"
        "ands   %[b], r4\n\t"
        "bpl    6f\n\t"
        "ldr    r12, %[rows_end]\n\t"
        "cmp    %[a], r12\n\t"
        "bne.w  1b\n\t"
        "b      7f\n"
        "6:\n\t"
        "ldrd   r4, r5, %[first]\n\t"
        "b      4b\n"
        "7:\n\t"
        : [a] "+l"(a), [b] "+l"(b), [entry] "+m"(entry), [first] "=m"(first)
        : [columns] "m"(p.columns), [end] "m"(end), [sums] "m"(p.sums), [scale] "m"(p.scale),
          [minus_square] "m"(p.minus_square), [to] "m"(p.to), [rows_end] "m"(p.rows_end)
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    product->rows = a;
    return (int32_t)(intptr_t)b;
}
#undef TT_FOUR_PAIRS
#undef TT_TWO_COLUMNS
#undef TT_ONE_PAIR

// Four rows from the first one on, of any number of pairs; each run of `fitting` pairs fits 32 bits.
static inline void tt_multiply_wide(const tt_product_of *product, int32_t fitting, int64_t *totals) {
    int32_t sums[TT_DOT_SUMS];
    tt_product_of part = {.sums = sums};
    for (int32_t start = 0; start < product->pairs; start += fitting) {
        part.rows = product->rows + TT_DOT_ROWS * start;
        part.columns = product->columns + TT_COLUMN_WORDS * start;
        part.pairs = tt_min(fitting, product->pairs - start);
        tt_multiply(&part);
        for (int32_t i = 0; i < TT_DOT_SUMS; i++) { totals[i] += sums[i]; }
    }
}

#endif
