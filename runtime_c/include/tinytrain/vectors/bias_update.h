// SPDX-License-Identifier: Apache-2.0
// tt_bias_update: neighbouring channels share one walk over the pixels.
#ifndef TINYTRAIN_VECTORS_BIAS_UPDATE_H
#define TINYTRAIN_VECTORS_BIAS_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/vectors/gradient.h"
#include "tinytrain/kernels/bias_update.h"
#include "tinytrain/update.h"

// 65536 mantissas of 16 bits fit 31 bits and a sign.
enum { CHUNK = 65535 };

// sums = gy over all pixels, for `vectors` vectors of channels from c on.
TT_ALWAYS_INLINE static inline void sum_pixels(const tt_bias_update_args *a, int32_t c, int64_t *sums,
                                               int32_t vectors) {
    const tt_mantissa *gy = (const tt_mantissa *)a->gy + c;
    for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) { sums[i] = 0; }
    for (int32_t start = 0; start < a->pixels; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, a->pixels);
        tt_vector parts[TT_VECTORS];
        TT_EACH_VECTOR(v, vectors) { parts[v] = tt_vector_of(0); }
        for (int32_t p = start; p < end; p++, gy += a->channels) {
            TT_EACH_VECTOR(v, vectors) { parts[v] += tt_load_mantissas(gy + v * TT_VECTOR_LANES); }
        }
        tt_add_lanes(sums, parts, vectors);
    }
}

TT_INNER_LOOP static void sum_vectors(const tt_bias_update_args *a, int32_t c, int64_t *sums) {
    sum_pixels(a, c, sums, TT_VECTORS);
}

TT_INNER_LOOP static void sum_vector(const tt_bias_update_args *a, int32_t c, int64_t *sums) {
    sum_pixels(a, c, sums, 1);
}

// The same for one channel.
static int64_t sum_channel(const tt_bias_update_args *a, int32_t c) {
    const tt_mantissa *gy = (const tt_mantissa *)a->gy + c;
    int64_t sum = 0;
    for (int32_t start = 0; start < a->pixels; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, a->pixels);
        int32_t part = 0;
        for (int32_t p = start; p < end; p++, gy += a->channels) { part += *gy; }
        sum += part;
    }
    return sum;
}

static inline void tt_bias_update(const tt_bias_update_args *a) {
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t done = 0; done < a->channels;) {
        const tt_tile tile = tt_next_tile(done, a->channels);
        int64_t sums[TT_LANES];
        if (tile.lanes == TT_LANES) {
            sum_vectors(a, tile.start, sums);
        } else if (TT_VECTOR_LANES > 1 && tile.lanes == TT_VECTOR_LANES) {
            sum_vector(a, tile.start, sums);
        } else {
            sums[0] = sum_channel(a, tile.start);
        }
        for (int32_t i = tile.known; i < tile.lanes; i++) {
            const tt_rate rate = tt_rate_of_channel(&a->update, tile.start + i);
            tt_update_element(&a->update, &rate, (uint32_t)(tile.start + i), tt_clipped(&clipping, sums[i]));
        }
        done = tile.start + tile.lanes;
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
