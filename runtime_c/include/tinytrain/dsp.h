// SPDX-License-Identifier: Apache-2.0
// Pairs of int16 in a word, on cores with the DSP instructions (Cortex-M4, M7, M33). Four bytes of a word make two
// pairs: the even ones (0, 2) and the odd ones (1, 3). Products of two operands expanded alike meet; no order is
// undone.
#ifndef TINYTRAIN_DSP_H
#define TINYTRAIN_DSP_H

#ifndef __OPTIMIZE__
#error "kernels for DSP instructions need a compiler that optimizes (-O1, -O2, -Os): assembly takes every register"
#endif

#include <arm_acle.h>
#include <string.h>

#include "tinytrain/types.h"

// Two words next to each other, at an address of whole words: one LDRD or STRD.
typedef uint64_t tt_two_words __attribute__((aligned(4), may_alias));

// Four bytes from any address.
static inline uint32_t tt_load_bytes(const void *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

// Words 2 * pair and 2 * pair + 1 behind an address; `pair` is a constant. gcc would take each on its own.
TT_ALWAYS_INLINE static inline void tt_load_two(const uint32_t *from, int32_t pair, uint32_t *first, uint32_t *second) {
    __asm__("ldrd %0, %1, [%2, %3]"
            : "=r"(*first), "=r"(*second)
            : "r"(from), "i"(8 * pair), "m"(((const tt_two_words *)from)[pair]));
}

TT_ALWAYS_INLINE static inline void tt_store_two(uint32_t *to, int32_t pair, uint32_t first, uint32_t second) {
    __asm__("strd %1, %2, [%3, %4]"
            : "=m"(((tt_two_words *)to)[pair])
            : "r"(first), "r"(second), "r"(to), "i"(8 * pair));
}

// The even, the odd bytes of a word as int16. gcc makes two instructions of the second one's rotation.
static inline uint32_t tt_even_pair(uint32_t bytes) { return (uint32_t)__sxtb16((int8x4_t)bytes); }

static inline uint32_t tt_odd_pair(uint32_t bytes) {
    uint32_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
}

// The same, each added to an element of a pair.
static inline uint32_t tt_add_even_pair(uint32_t pair, uint32_t bytes) {
    return (uint32_t)__sxtab16((int16x2_t)pair, (int8x4_t)bytes);
}

static inline uint32_t tt_add_odd_pair(uint32_t pair, uint32_t bytes) {
    uint32_t sum;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sum) : "r"(pair), "r"(bytes));
    return sum;
}

// Sums of both elements of two pairs.
static inline uint32_t tt_add_pairs(uint32_t a, uint32_t b) { return (uint32_t)__sadd16((int16x2_t)a, (int16x2_t)b); }

// Both elements of a pair.
static inline uint32_t tt_pair_of(int32_t value) { return ((uint32_t)value & 0xFFFFU) * 0x10001U; }

// (first of a, first of b), (second of a, second of b). gcc would shift and mask.
static inline uint32_t tt_firsts(uint32_t a, uint32_t b) {
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}

static inline uint32_t tt_seconds(uint32_t a, uint32_t b) {
    uint32_t pair;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}

// The larger, the smaller of each byte of two words.
static inline uint32_t tt_larger_bytes(uint32_t a, uint32_t b) {
    uint32_t bytes;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(bytes) : "r"(a), "r"(b));
    return bytes;
}

static inline uint32_t tt_smaller_bytes(uint32_t a, uint32_t b) {
    uint32_t bytes;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(bytes) : "r"(a), "r"(b));
    return bytes;
}

// sum + both products.
static inline int32_t tt_add_products(uint32_t a, uint32_t b, int32_t sum) {
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}

#endif
