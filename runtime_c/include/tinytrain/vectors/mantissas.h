// SPDX-License-Identifier: Apache-2.0
// From sums of 32 bits in vectors to mantissas, and their largest magnitude.
#ifndef TINYTRAIN_VECTORS_MANTISSAS_H
#define TINYTRAIN_VECTORS_MANTISSAS_H

#include "tinytrain/gradient.h"
#include "tinytrain/vectors.h"

// The largest and the smallest value in each lane, and the largest magnitude of what came otherwise.
typedef struct tt_magnitudes {
    tt_vector high, low;
    uint64_t other;
} tt_magnitudes;

static inline tt_magnitudes tt_no_magnitudes(void) {
    const tt_magnitudes none = {tt_vector_of(0), tt_vector_of(0), 0};
    return none;
}

static inline void tt_see_magnitude(tt_magnitudes *m, uint64_t magnitude) {
    if (magnitude > m->other) { m->other = magnitude; }
}

static inline void tt_see_vector(tt_magnitudes *m, tt_vector values) {
#if TT_AVX == 512
    m->high = (tt_vector)_mm512_max_epi32((__m512i)m->high, (__m512i)values);
    m->low = (tt_vector)_mm512_min_epi32((__m512i)m->low, (__m512i)values);
#elif TT_AVX == 256
    m->high = (tt_vector)_mm256_max_epi32((__m256i)m->high, (__m256i)values);
    m->low = (tt_vector)_mm256_min_epi32((__m256i)m->low, (__m256i)values);
#elif TT_VECTOR_LANES > 1
    const tt_vector above = values > m->high, below = values < m->low;
    m->high = (values & above) | (m->high & ~above);
    m->low = (values & below) | (m->low & ~below);
#else
    m->high = values > m->high ? values : m->high;
    m->low = values < m->low ? values : m->low;
#endif
}

static inline uint64_t tt_largest_magnitude(const tt_magnitudes *m) {
    int32_t lanes[2 * TT_VECTOR_LANES];
    uint64_t largest = m->other;
    tt_store(m->high, lanes);
    tt_store(m->low, lanes + TT_VECTOR_LANES);
    for (int32_t i = 0; i < 2 * TT_VECTOR_LANES; i++) {
        const uint64_t magnitude = tt_magnitude(lanes[i]);
        if (magnitude > largest) { largest = magnitude; }
    }
    return largest;
}

// The first `count` lanes as the elements from `index` on of a tensor; the other lanes are 0.
static inline void tt_store_mantissa_vector(const tt_rounding *rounding, tt_vector values, int32_t index, void *tensor,
                                            int32_t count, tt_magnitudes *m) {
    tt_mantissa *to = (tt_mantissa *)tensor + index;
    tt_see_vector(m, values);
    count = count < TT_VECTOR_LANES ? count : TT_VECTOR_LANES;
#if TT_AVX == 512 && TT_GRADIENT_BITS == 16
    const int32_t right = rounding->right;
    if (right >= 1 && right <= 31) {
        const __m512i rounded = (__m512i)(((values >> (right - 1)) + 1) >> 1);
        _mm256_mask_storeu_epi16(to, (__mmask16)((1U << count) - 1), _mm512_cvtsepi32_epi16(rounded));
        return;
    }
#endif
    int32_t lanes[TT_VECTOR_LANES];
    tt_store(values, lanes);
    for (int32_t i = 0; i < count; i++) { to[i] = tt_to_mantissa32(rounding, lanes[i], index + i); }
}

#endif
