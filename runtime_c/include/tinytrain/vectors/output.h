// SPDX-License-Identifier: Apache-2.0
// From exact sums to int8 outputs, in vectors of channels.
#ifndef TINYTRAIN_VECTORS_OUTPUT_H
#define TINYTRAIN_VECTORS_OUTPUT_H

#include "tinytrain/output.h"
#include "tinytrain/vectors.h"

#if TT_VECTOR_LANES > 1
typedef uint32_t tt_unsigned_vector __attribute__((vector_size(4 * TT_VECTOR_LANES)));

// a where the mask is all ones, b where it is 0.
static inline tt_vector tt_select(tt_vector mask, tt_vector a, tt_vector b) { return (a & mask) | (b & ~mask); }

static inline tt_vector tt_saturating_add_vector(tt_vector a, tt_vector b) {
    const tt_vector sum = (tt_vector)((tt_unsigned_vector)a + (tt_unsigned_vector)b);
    return tt_select(((a ^ sum) & (b ^ sum)) >> 31, (a >> 31) ^ INT32_MAX, sum);
}

// floor((a b + 2^30) / 2^31)
static inline tt_vector tt_multiply_high(tt_vector a, tt_vector b) {
#if defined(__AVX2__) && !defined(__clang__) && TT_VECTOR_LANES == 8
    typedef int64_t wide __attribute__((vector_size(32)));
    typedef uint64_t word __attribute__((vector_size(32)));
    const tt_vector odd_lanes = {0, -1, 0, -1, 0, -1, 0, -1};
    const word even = (word)((wide)__builtin_ia32_pmuldq256(a, b) + (1 << 30));
    const wide products = (wide)__builtin_ia32_pmuldq256((tt_vector)((word)a >> 32), (tt_vector)((word)b >> 32));
    const word odd = (word)(products + (1 << 30));
    return tt_select(odd_lanes, (tt_vector)(odd << 1), (tt_vector)(even >> 31));
#else
    tt_vector high = a;
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { high[i] = (int32_t)(((int64_t)a[i] * b[i] + (1 << 30)) >> 31); }
    return high;
#endif
}

// tt_requantize_double, lane by lane.
static inline tt_vector tt_requantize_vector(tt_vector x, tt_vector multiplier, tt_vector shift) {
    const tt_vector left = shift & ~(shift >> 31), right = left - shift;
    const tt_vector high = tt_multiply_high((tt_vector)((tt_unsigned_vector)x << (tt_unsigned_vector)left), multiplier);
    const tt_vector mask = ~(-1 << right);
    const tt_vector threshold = (tt_vector)((tt_unsigned_vector)mask >> 1) - (high >> 31);
    return (high >> right) - ((high & mask) > threshold);
}

static inline tt_vector tt_clamp_vector(tt_vector x, int32_t low, int32_t high) {
    const tt_vector lows = tt_vector_of(low), highs = tt_vector_of(high);
    const tt_vector raised = tt_select(x < lows, lows, x);
    return tt_select(raised > highs, highs, raised);
}

static inline void tt_store_s8(tt_vector vector, int8_t *to) {
    int32_t lanes[TT_VECTOR_LANES];
    tt_store(vector, lanes);
    for (int32_t i = 0; i < TT_VECTOR_LANES; i++) { to[i] = (int8_t)lanes[i]; }
}
#endif

// The outputs of `vectors` vectors of neighbouring channels.
TT_ALWAYS_INLINE static inline void tt_store_outputs(const tt_output *o, const tt_vector *sums, int32_t channel,
                                                     int8_t *y, int32_t vectors) {
    int32_t lanes[TT_LANES];
#if TT_VECTOR_LANES > 1
    if (!o->single_rounding) {
        TT_EACH_VECTOR(v, vectors) {
            const int32_t first = v * TT_VECTOR_LANES, c = channel + first;
            const tt_vector total = tt_saturating_add_vector(sums[v], tt_load_s32(o->bias + c));
            const tt_vector multiplier = tt_load_s32(o->multiplier + c), shift = tt_load_s8(o->shift + c);
            const tt_vector value = tt_requantize_vector(total, multiplier, shift);
            const tt_vector clamped = tt_clamp_vector(value, o->low - o->zero_point, o->high - o->zero_point);
            tt_store(clamped + o->zero_point, lanes + first);
        }
        for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) { y[i] = (int8_t)lanes[i]; }
        return;
    }
#endif
    TT_EACH_VECTOR(v, vectors) { tt_store(sums[v], lanes + v * TT_VECTOR_LANES); }
    for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) { y[i] = tt_output_of(o, lanes[i], channel + i); }
}

#endif
