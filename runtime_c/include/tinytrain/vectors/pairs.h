// SPDX-License-Identifier: Apache-2.0
// Products of int16 in pairs: each lane adds first * first + second * second, one instruction where the processor has
// it. What is multiplied lies in memory as tt_pairs: the pairs of the lanes of a vector, one lane after the other.
#ifndef TINYTRAIN_VECTORS_PAIRS_H
#define TINYTRAIN_VECTORS_PAIRS_H

#include "tinytrain/vectors.h"

enum { TT_PAIRS = 2 * TT_VECTOR_LANES };  // int16 of a vector of pairs

#if TT_AVX == 512
typedef __m512i tt_pairs;
static inline tt_pairs tt_load_pairs(const int16_t *from) { return _mm512_loadu_si512(from); }
static inline void tt_store_pairs(tt_pairs pairs, int16_t *to) { _mm512_storeu_si512(to, pairs); }
static inline tt_pairs tt_pairs_of(int32_t both) { return _mm512_set1_epi32(both); }
static inline tt_vector tt_add_pairs(tt_vector sums, tt_pairs a, tt_pairs b) {
#if defined(__AVX512VNNI__)
    return (tt_vector)_mm512_dpwssd_epi32((__m512i)sums, a, b);
#else
    return sums + (tt_vector)_mm512_madd_epi16(a, b);
#endif
}

// Pairs of two rows of int8.
static inline tt_pairs tt_zip_s8(const int8_t *first, const int8_t *second) {
    const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)first);
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)second);
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
}
#elif TT_AVX == 256
typedef __m256i tt_pairs;
static inline tt_pairs tt_load_pairs(const int16_t *from) {
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}
static inline void tt_store_pairs(tt_pairs pairs, int16_t *to) {
    _mm256_storeu_si256((__m256i *)(void *)to, pairs);
}
static inline tt_pairs tt_pairs_of(int32_t both) { return _mm256_set1_epi32(both); }
static inline tt_vector tt_add_pairs(tt_vector sums, tt_pairs a, tt_pairs b) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (tt_vector)_mm256_dpwssd_epi32((__m256i)sums, a, b);
#else
    return sums + (tt_vector)_mm256_madd_epi16(a, b);
#endif
}
static inline tt_pairs tt_zip_s8(const int8_t *first, const int8_t *second) {
    const __m128i a = _mm_loadl_epi64((const __m128i *)(const void *)first);
    const __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)second);
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
}
#elif TT_SSE
typedef __m128i tt_pairs;
static inline tt_pairs tt_load_pairs(const int16_t *from) {
    return _mm_loadu_si128((const __m128i *)(const void *)from);
}
static inline void tt_store_pairs(tt_pairs pairs, int16_t *to) { _mm_storeu_si128((__m128i *)(void *)to, pairs); }
static inline tt_pairs tt_pairs_of(int32_t both) { return _mm_set1_epi32(both); }
static inline tt_vector tt_add_pairs(tt_vector sums, tt_pairs a, tt_pairs b) {
    return sums + (tt_vector)_mm_madd_epi16(a, b);
}
static inline tt_pairs tt_zip_s8(const int8_t *first, const int8_t *second) {
    int32_t a, b;
    memcpy(&a, first, sizeof a);
    memcpy(&b, second, sizeof b);
    const __m128i both = _mm_unpacklo_epi8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b));
    return _mm_srai_epi16(_mm_unpacklo_epi8(both, both), 8);
}
#else
typedef struct tt_pairs {
    tt_vector first, second;
} tt_pairs;
static inline tt_pairs tt_load_pairs(const int16_t *from) {
    tt_vector both;
    memcpy(&both, from, sizeof both);
    const tt_pairs pairs = {(tt_vector)(both << 16) >> 16, both >> 16};
    return pairs;
}
static inline void tt_store_pairs(tt_pairs pairs, int16_t *to) {
    const tt_vector both = (pairs.first & 0xFFFF) | (pairs.second << 16);
    memcpy(to, &both, sizeof both);
}
static inline tt_pairs tt_pairs_of(int32_t both) {
    const tt_pairs pairs = {tt_vector_of((int16_t)both), tt_vector_of(both >> 16)};
    return pairs;
}
static inline tt_vector tt_add_pairs(tt_vector sums, tt_pairs a, tt_pairs b) {
    return sums + a.first * b.first + a.second * b.second;
}
static inline tt_pairs tt_zip_s8(const int8_t *first, const int8_t *second) {
    const tt_pairs pairs = {tt_load_s8(first), tt_load_s8(second)};
    return pairs;
}
#endif

// Pairs of the first `count` lanes of two rows, which are all there is to read.
static inline tt_pairs tt_zip_some_s8(const int8_t *first, const int8_t *second, int32_t count) {
#if TT_AVX == 512
    const __mmask16 some = (__mmask16)((1U << count) - 1);
    const __m128i a = _mm_maskz_loadu_epi8(some, first), b = _mm_maskz_loadu_epi8(some, second);
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
#else
    int8_t a[TT_VECTOR_LANES] = {0}, b[TT_VECTOR_LANES] = {0};
    for (int32_t i = 0; i < count; i++) { a[i] = first[i], b[i] = second[i]; }
    return tt_zip_s8(a, b);
#endif
}

// The first `count` lanes.
static inline void tt_store_some_pairs(tt_pairs pairs, int16_t *to, int32_t count) {
#if TT_AVX == 512
    _mm512_mask_storeu_epi32(to, (__mmask16)((1U << count) - 1), pairs);
#else
    int16_t all[TT_PAIRS];
    tt_store_pairs(pairs, all);
    for (int32_t i = 0; i < 2 * count; i++) { to[i] = all[i]; }
#endif
}

// TT_TURNED neighbours of each of TT_VECTOR_LANES rows of int8, `step` apart, as vectors of pairs `to_step` apart.
enum { TT_TURNED = 16 };
static inline void tt_turn(const int8_t *from, int32_t step, int16_t *to, int32_t to_step) {
#if TT_AVX == 512
    __m512i rows[4];
    for (int32_t i = 0; i < 4; i++) {
        const int8_t *row = from + i * step;
        rows[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)row));
        rows[i] = _mm512_inserti32x4(rows[i], _mm_loadu_si128((const __m128i *)(const void *)(row + 4 * step)), 1);
        rows[i] = _mm512_inserti32x4(rows[i], _mm_loadu_si128((const __m128i *)(const void *)(row + 8 * step)), 2);
        rows[i] = _mm512_inserti32x4(rows[i], _mm_loadu_si128((const __m128i *)(const void *)(row + 12 * step)), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]), b = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const __m512i c = _mm512_unpackhi_epi32(rows[0], rows[1]), d = _mm512_unpackhi_epi32(rows[2], rows[3]);
    const __m512i fours[4] = {_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b), _mm512_unpacklo_epi64(c, d),
                              _mm512_unpackhi_epi64(c, d)};
    for (int32_t i = 0; i < 4; i++, to += 2 * to_step) {  // bytes 0 to 3 of a lane: two pairs
        const __m512i odd = _mm512_srai_epi16(fours[i], 8), even = _mm512_srai_epi16(_mm512_slli_epi16(fours[i], 8), 8);
        const __m512i low = _mm512_mask_blend_epi16(0xAAAAAAAAU, even, _mm512_slli_epi32(odd, 16));
        const __m512i high = _mm512_mask_blend_epi16(0xAAAAAAAAU, _mm512_srli_epi32(even, 16), odd);
        _mm512_storeu_si512(to, low);
        _mm512_storeu_si512(to + to_step, high);
    }
#elif TT_AVX == 256
    __m256i rows[4];
    for (int32_t i = 0; i < 4; i++) {
        const int8_t *row = from + i * step;
        rows[i] = _mm256_set_m128i(_mm_loadu_si128((const __m128i *)(const void *)(row + 4 * step)),
                                   _mm_loadu_si128((const __m128i *)(const void *)row));
    }
    const __m256i a = _mm256_unpacklo_epi32(rows[0], rows[1]), b = _mm256_unpacklo_epi32(rows[2], rows[3]);
    const __m256i c = _mm256_unpackhi_epi32(rows[0], rows[1]), d = _mm256_unpackhi_epi32(rows[2], rows[3]);
    const __m256i fours[4] = {_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b), _mm256_unpacklo_epi64(c, d),
                              _mm256_unpackhi_epi64(c, d)};
    for (int32_t i = 0; i < 4; i++, to += 2 * to_step) {
        const __m256i odd = _mm256_srai_epi16(fours[i], 8), even = _mm256_srai_epi16(_mm256_slli_epi16(fours[i], 8), 8);
        const __m256i low = _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xAA);
        const __m256i high = _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA);
        _mm256_storeu_si256((__m256i *)(void *)to, low);
        _mm256_storeu_si256((__m256i *)(void *)(to + to_step), high);
    }
#else
    for (int32_t lane = 0; lane < TT_VECTOR_LANES; lane++, from += step) {
        for (int32_t i = 0; i < TT_TURNED; i++) { to[i / 2 * to_step + 2 * lane + i % 2] = from[i]; }
    }
#endif
}

// sums += x w for `rows` rows of x, `x_step` apart, and `vectors` vectors of weights [pairs, vectors, TT_PAIRS].
TT_ALWAYS_INLINE static inline void tt_multiply(const int16_t *x, int32_t x_step, const int16_t *w, int32_t pairs,
                                                int32_t rows, int32_t vectors, tt_vector *sums) {
    for (int32_t p = 0; p < pairs; p++, x += 2, w += vectors * TT_PAIRS) {
        tt_pairs weights[TT_VECTORS];
        TT_EACH_VECTOR(v, vectors) { weights[v] = tt_load_pairs(w + v * TT_PAIRS); }
        TT_EACH_VECTOR(r, rows) {
            int32_t both;
            memcpy(&both, x + r * x_step, sizeof both);
            const tt_pairs values = tt_pairs_of(both);
            TT_EACH_VECTOR(v, vectors) {
                sums[r * vectors + v] = tt_add_pairs(sums[r * vectors + v], weights[v], values);
            }
        }
    }
}

#endif
