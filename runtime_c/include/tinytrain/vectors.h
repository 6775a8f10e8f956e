// SPDX-License-Identifier: Apache-2.0
// Neighbouring channels that a kernel works on together. On a host a tt_vector is four or eight int32 lanes, also in a
// Helium twin that asks for four; else on a Cortex-M it is one int32, and what reads like vector code is plain C. No
// count of lanes changes a bit: integer sums have no order.
#ifndef TINYTRAIN_VECTORS_H
#define TINYTRAIN_VECTORS_H

#include <string.h>

#include "tinytrain/types.h"

#if !defined(TT_VECTOR_LANES)
#if defined(__AVX2__)
#define TT_VECTOR_LANES 8
#elif defined(__GNUC__) && !(defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#define TT_VECTOR_LANES 4
#else
#define TT_VECTOR_LANES 1
#endif
#endif

// TT_VECTORS of them are as many sums as stay in registers. Loops over vectors are written out, for the same reason.
enum { TT_VECTORS = 4, TT_LANES = TT_VECTORS * TT_VECTOR_LANES };
#if defined(__GNUC__)
#define TT_EACH_VECTOR(v, vectors) _Pragma("GCC unroll 4") for (int32_t v = 0; v < (vectors); v++)
#else
#define TT_EACH_VECTOR(v, vectors) for (int32_t v = 0; v < (vectors); v++)
#endif

#if defined(__ARM_FEATURE_MVE) && TT_VECTOR_LANES == 4
#include <arm_mve.h>
#endif

#if TT_VECTOR_LANES > 1
typedef int32_t tt_vector __attribute__((vector_size(4 * TT_VECTOR_LANES)));

typedef int16_t tt_vector_of_s16 __attribute__((vector_size(2 * TT_VECTOR_LANES)));
typedef int8_t tt_vector_of_s8 __attribute__((vector_size(TT_VECTOR_LANES)));

#if defined(__AVX2__) && !defined(__clang__) && TT_VECTOR_LANES == 8
// One instruction each, where gcc would convert in several or lane by lane.
typedef char tt_sixteen_bytes __attribute__((vector_size(16)));
typedef int64_t tt_two_words __attribute__((vector_size(16)));

static inline tt_vector tt_load_s16(const int16_t *from) {
    tt_vector_of_s16 halves;
    memcpy(&halves, from, sizeof halves);
    return (tt_vector)__builtin_ia32_pmovsxwd256(halves);
}

static inline tt_vector tt_load_s8(const int8_t *from) {
    tt_two_words low = {0, 0};
    memcpy(&low, from, TT_VECTOR_LANES);
    return (tt_vector)__builtin_ia32_pmovsxbd256((tt_sixteen_bytes)low);
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

#if TT_VECTOR_LANES == 8
// Bit i: is lane i, all ones or 0, not 0?
static inline uint8_t tt_bits(tt_vector lanes) {
#if defined(__AVX2__) && !defined(__clang__)
    typedef float floats __attribute__((vector_size(32)));
    return (uint8_t)__builtin_ia32_movmskps256((floats)lanes);
#else
    uint32_t bits = 0;
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { bits |= (uint32_t)(lanes[i] & 1) << i; }
    return (uint8_t)bits;
#endif
}
#endif

// Pairs of weights, one of each lane, as int16. tt_place_in_pair: where a lane's first (0) or second (1) one lies.
// tt_pack_pairs: from lanes `step` bytes apart. tt_add_pairs: sums + first * x[0] + second * x[1].
#if defined(__AVX2__) && !defined(__clang__) && TT_VECTOR_LANES == 8
typedef int16_t tt_pairs __attribute__((vector_size(32)));

static inline int32_t tt_place_in_pair(int32_t lane, int32_t member) { return 2 * lane + member; }

static inline void tt_pack_pairs(const int8_t *from, int32_t step, int16_t *to) {
    tt_vector_of_s16 bytes = {0};
    for (int32_t lane = 0; lane < TT_VECTOR_LANES; lane++) {
        int16_t both;
        memcpy(&both, from + lane * step, sizeof both);
        bytes[lane] = both;
    }
    const tt_pairs pairs = (tt_pairs)__builtin_ia32_pmovsxbw256((tt_sixteen_bytes)bytes);
    memcpy(to, &pairs, sizeof pairs);
}

static inline tt_vector tt_add_pairs(tt_vector sums, const int16_t *from, const int16_t *x) {
    tt_pairs pairs;
    int32_t both;
    memcpy(&pairs, from, sizeof pairs);
    memcpy(&both, x, sizeof both);
    return sums + (tt_vector)__builtin_ia32_pmaddwd256(pairs, (tt_pairs)tt_vector_of(both));
}
#else
static inline int32_t tt_place_in_pair(int32_t lane, int32_t member) { return member * TT_VECTOR_LANES + lane; }

static inline void tt_pack_pairs(const int8_t *from, int32_t step, int16_t *to) {
    for (int32_t lane = 0; lane < TT_VECTOR_LANES; lane++, from += step) {
        to[lane] = from[0];
        to[TT_VECTOR_LANES + lane] = from[1];
    }
}

static inline tt_vector tt_add_pairs(tt_vector sums, const int16_t *from, const int16_t *x) {
    return sums + x[0] * tt_load_s16(from) + x[1] * tt_load_s16(from + TT_VECTOR_LANES);
}
#endif
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
