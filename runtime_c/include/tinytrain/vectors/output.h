// SPDX-License-Identifier: Apache-2.0
// From exact sums to int8 outputs, in vectors of channels. As in tinytrain/portable.h what a channel needs is prepared
// once; channels that the fast way is not made for go one by one.
#ifndef TINYTRAIN_VECTORS_OUTPUT_H
#define TINYTRAIN_VECTORS_OUTPUT_H

#include "tinytrain/portable.h"
#include "tinytrain/vectors.h"

// floor((a b + 2^31) / 2^32), lane by lane.
static inline tt_vector tt_high_words(tt_vector a, tt_vector b) {
#if TT_AVX == 512
    const __m512i half = _mm512_set1_epi64((int64_t)1 << 31), x = (__m512i)a, y = (__m512i)b;
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, y), half);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(y, 32)), half);
    return (tt_vector)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
#elif TT_AVX == 256
    const __m256i half = _mm256_set1_epi64x((int64_t)1 << 31), x = (__m256i)a, y = (__m256i)b;
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, y), half);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(y, 32)), half);
    return (tt_vector)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
#elif TT_VECTOR_LANES > 1
    tt_vector high = a;
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { high[i] = tt_rounded_upper(a[i], b[i]); }
    return high;
#else
    return tt_rounded_upper(a, b);
#endif
}

// The first `count` lanes, clamped to int8.
static inline void tt_store_s8(tt_vector vector, int8_t *to, int32_t count) {
#if TT_AVX == 512
    const __mmask16 some = count < 16 ? (__mmask16)((1U << count) - 1) : 0xFFFF;
    _mm_mask_storeu_epi8(to, some, _mm512_cvtsepi32_epi8((__m512i)vector));
#else
    int8_t bytes[TT_VECTOR_LANES];
#if TT_AVX == 256
    const __m256i x = (__m256i)vector;
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *)(void *)bytes, _mm_packs_epi16(halves, halves));
#else
    int32_t lanes[TT_VECTOR_LANES];
    tt_store(vector, lanes);
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { bytes[i] = (int8_t)tt_clamp(lanes[i], INT8_MIN, INT8_MAX); }
#endif
    if (count >= TT_VECTOR_LANES) {
        memcpy(to, bytes, TT_VECTOR_LANES);
    } else {
        for (int32_t i = 0; i < count; i++) { to[i] = bytes[i]; }
    }
#endif
}

static inline tt_vector tt_clamp_vector(tt_vector x, int32_t low, int32_t high) {
#if TT_AVX == 512
    return (tt_vector)_mm512_min_epi32(_mm512_max_epi32((__m512i)x, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
#elif TT_AVX == 256
    return (tt_vector)_mm256_min_epi32(_mm256_max_epi32((__m256i)x, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
#elif TT_VECTOR_LANES > 1
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { x[i] = tt_clamp(x[i], low, high); }
    return x;
#else
    return tt_clamp(x, low, high);
#endif
}

// `count` neighbouring channels, `channel` the first, as tt_channel has one of them.
typedef struct tt_outputs {
    int32_t start[TT_LANES], multiplier[TT_LANES], addend[TT_LANES], right[TT_LANES];
    tt_output output;
    int32_t channel, count;
    int32_t slow;  // how many have right = 0
} tt_outputs;

static inline void tt_prepare(tt_outputs *to, const tt_output *output, int32_t channel, int32_t count,
                              int64_t largest) {
    tt_output whole = *output;
    whole.low = INT8_MIN, whole.high = INT8_MAX;  // clamped afterwards
    to->output = *output, to->channel = channel, to->count = count, to->slow = 0;
    for (int32_t i = 0; i < TT_LANES; i++) {
        const tt_channel none = {0, 0, 0, 1}, fast = i < count ? tt_channel_of(&whole, channel + i, 0, largest) : none;
        to->start[i] = fast.start, to->multiplier[i] = fast.multiplier;
        to->addend[i] = fast.addend, to->right[i] = fast.right;
        to->slow += fast.right == 0;
    }
}

// Outputs of `vectors` vectors of sums.
TT_ALWAYS_INLINE static inline void tt_store_outputs(const tt_outputs *o, const tt_vector *sums, int8_t *y,
                                                     int32_t vectors) {
    TT_EACH_VECTOR(v, vectors) {
        const int32_t first = v * TT_VECTOR_LANES;
        const tt_vector total = sums[v] + tt_load_s32(o->start + first);
        const tt_vector high = tt_high_words(total + total, tt_load_s32(o->multiplier + first));
        const tt_vector value = (high + (high >> 31) + tt_load_s32(o->addend + first)) >> tt_load_s32(o->right + first);
        const tt_vector clamped = tt_clamp_vector(value, o->output.low, o->output.high);
        tt_store_s8(clamped, y + first, o->count - first);
    }
    if (o->slow == 0) { return; }
    int32_t lanes[TT_LANES];
    TT_EACH_VECTOR(v, vectors) { tt_store(sums[v], lanes + v * TT_VECTOR_LANES); }
    for (int32_t i = 0; i < o->count; i++) {
        if (o->right[i] == 0) { y[i] = tt_output_of(&o->output, lanes[i], o->channel + i); }
    }
}

#endif
