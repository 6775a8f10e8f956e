// SPDX-License-Identifier: Apache-2.0
// Neighbouring channels that a kernel works on together, for hosts and for Helium twins that ask for four lanes. A
// tt_vector is 16 (AVX-512), 8 (AVX2), 4 or 1 int32 lanes. No count of lanes changes a bit: integer sums have no order.
#ifndef TINYTRAIN_VECTORS_H
#define TINYTRAIN_VECTORS_H

#include <string.h>

#include "tinytrain/types.h"

#if !defined(TT_VECTOR_LANES)
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define TT_VECTOR_LANES 16
#elif defined(__AVX2__)
#define TT_VECTOR_LANES 8
#elif defined(__GNUC__) && !(defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#define TT_VECTOR_LANES 4
#else
#define TT_VECTOR_LANES 1
#endif
#endif

// Which of the processor's own instructions stand in for loops over lanes.
#if defined(__AVX2__) && TT_VECTOR_LANES == 16
#define TT_AVX 512
#elif defined(__AVX2__) && TT_VECTOR_LANES == 8
#define TT_AVX 256
#else
#define TT_AVX 0
#endif
#if defined(__SSE2__) && TT_VECTOR_LANES == 4
#define TT_SSE 1
#else
#define TT_SSE 0
#endif
#if TT_AVX || TT_SSE
#include <immintrin.h>
#elif defined(__ARM_FEATURE_MVE) && TT_VECTOR_LANES == 4
#include <arm_mve.h>
#endif

// TT_VECTORS of them are as many sums as stay in registers. Loops over vectors are written out, for the same reason.
enum { TT_VECTORS = 4, TT_LANES = TT_VECTORS * TT_VECTOR_LANES };
#if defined(__GNUC__)
#define TT_EACH_VECTOR(v, vectors) _Pragma("GCC unroll 4") for (int32_t v = 0; v < (vectors); v++)
#else
#define TT_EACH_VECTOR(v, vectors) for (int32_t v = 0; v < (vectors); v++)
#endif

#if TT_VECTOR_LANES > 1
typedef int32_t tt_vector __attribute__((vector_size(4 * TT_VECTOR_LANES)));

typedef int16_t tt_vector_of_s16 __attribute__((vector_size(2 * TT_VECTOR_LANES)));
typedef int8_t tt_vector_of_s8 __attribute__((vector_size(TT_VECTOR_LANES)));

#if TT_AVX == 512
static inline tt_vector tt_load_s16(const int16_t *from) {
    return (tt_vector)_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)from));
}
static inline tt_vector tt_load_s8(const int8_t *from) {
    return (tt_vector)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}
#elif TT_AVX == 256
static inline tt_vector tt_load_s16(const int16_t *from) {
    return (tt_vector)_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}
static inline tt_vector tt_load_s8(const int8_t *from) {
    return (tt_vector)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from));
}
#elif defined(__ARM_FEATURE_MVE) && TT_VECTOR_LANES == 4
static inline tt_vector tt_load_s16(const int16_t *from) { return (tt_vector)vldrhq_s32(from); }
static inline tt_vector tt_load_s8(const int8_t *from) { return (tt_vector)vldrbq_s32(from); }
#else
static inline tt_vector tt_load_s16(const int16_t *from) {
    tt_vector_of_s16 halves;
    memcpy(&halves, from, sizeof halves);
    return __builtin_convertvector(halves, tt_vector);
}

static inline tt_vector tt_load_s8(const int8_t *from) {
    tt_vector_of_s8 bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(__builtin_convertvector(bytes, tt_vector_of_s16), tt_vector);
}
#endif

static inline tt_vector tt_load_s32(const int32_t *from) {
    tt_vector lanes;
    memcpy(&lanes, from, sizeof lanes);
    return lanes;
}

static inline tt_vector tt_vector_of(int32_t value) { return value - (tt_vector){0}; }

static inline void tt_store(tt_vector vector, int32_t *to) { memcpy(to, &vector, sizeof vector); }
#else
typedef int32_t tt_vector;

static inline tt_vector tt_load_s8(const int8_t *from) { return *from; }
static inline tt_vector tt_load_s16(const int16_t *from) { return *from; }
static inline tt_vector tt_load_s32(const int32_t *from) { return *from; }
static inline tt_vector tt_vector_of(int32_t value) { return value; }
static inline void tt_store(tt_vector vector, int32_t *to) { *to = vector; }
#endif

// sums += the lanes of `vectors` vectors.
TT_ALWAYS_INLINE static inline void tt_add_lanes(int64_t *sums, const tt_vector *parts, int32_t vectors) {
    int32_t lanes[TT_LANES];
    TT_EACH_VECTOR(v, vectors) { tt_store(parts[v], lanes + v * TT_VECTOR_LANES); }
    for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) { sums[i] += lanes[i]; }
}

// Channels start..start + lanes - 1, where lanes is TT_LANES, TT_VECTOR_LANES or 1; the first `known` are done already.
typedef struct tt_tile {
    int32_t start, lanes, known;
} tt_tile;

// The next tile of channels 0..count - 1 when `done` of them are done. The end of a run is filled up to a whole vector
// with channels that are done, so only runs shorter than a vector go channel by channel.
static inline tt_tile tt_next_tile(int32_t done, int32_t count) {
    tt_tile tile = {done, 1, 0};
    if (count - done >= TT_LANES) {
        tile.lanes = TT_LANES;
    } else if (count >= TT_VECTOR_LANES) {
        tile.lanes = TT_VECTOR_LANES;
        if (count - done < TT_VECTOR_LANES) { tile.start = count - TT_VECTOR_LANES; }
        tile.known = done - tile.start;
    }
    return tile;
}

#endif
