// SPDX-License-Identifier: Apache-2.0
// Images as planes of int16, one for each of four channels: two neighbours of a row lie in a word, and one instruction
// multiplies both. On cores with the DSP instructions.
#ifndef TINYTRAIN_DSP_PLANES_H
#define TINYTRAIN_DSP_PLANES_H

#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

enum { TT_PLANES = 4 };

// What a row of an image becomes: pairs of zeros, a zero and the first pixel, pairs of pixels, the last pixel and a zero,
// pairs of zeros.
typedef struct tt_row_plan {
    int32_t zeros_before, first, pairs, last, zeros_after;
} tt_row_plan;

// Rows of `words` pairs, with so many padded cells before the first of `width` pixels.
static inline tt_row_plan tt_row_plan_of(int32_t padding, int32_t words, int32_t width) {
    tt_row_plan plan;
    plan.zeros_before = tt_min(words, padding >> 1);
    plan.first = (padding & 1) != 0 && plan.zeros_before < words;
    int32_t left = words - plan.zeros_before - plan.first, pixels = width - plan.first;
    plan.pairs = tt_min(left, pixels >> 1);
    left -= plan.pairs;
    pixels -= 2 * plan.pairs;
    plan.last = left > 0 && pixels > 0;
    plan.zeros_after = left - plan.last;
    return plan;
}

// The even and the odd channels of two neighbours: a pair to each plane, `plane` words apart.
TT_ALWAYS_INLINE static inline void tt_store_planes(uint32_t even_a, uint32_t odd_a, uint32_t even_b, uint32_t odd_b,
                                                    uint32_t *to, int32_t plane) {
    to[0] = tt_firsts(even_a, even_b);
    to[plane] = tt_firsts(odd_a, odd_b);
    to[2 * plane] = tt_seconds(even_a, even_b);
    to[3 * plane] = tt_seconds(odd_a, odd_b);
}

// The same, for a word that moves on in each plane.
TT_ALWAYS_INLINE static inline void tt_next_planes(uint32_t even_a, uint32_t odd_a, uint32_t even_b, uint32_t odd_b,
                                                   uint32_t **to) {
    *to[0]++ = tt_firsts(even_a, even_b);
    *to[1]++ = tt_firsts(odd_a, odd_b);
    *to[2]++ = tt_seconds(even_a, even_b);
    *to[3]++ = tt_seconds(odd_a, odd_b);
}

// Rows of an image, `channels` bytes from one pixel to the next, x_row from one row to the next, one after the other in
// each plane.
TT_INNER_LOOP static void tt_pack_rows(const tt_row_plan *plan, const int8_t *x, int32_t x_row, int32_t channels,
                                       int32_t rows, uint32_t minus_zero, uint32_t *planes, int32_t plane) {
    uint32_t *to[TT_PLANES] = {planes, planes + plane, planes + 2 * plane, planes + 3 * plane};
    for (; rows > 0; rows--, x += x_row) {
        const int8_t *row = x;
        for (int32_t i = plan->zeros_before; i > 0; i--) { tt_next_planes(0, 0, 0, 0, to); }
        if (plan->first) {
            const uint32_t b = tt_load_bytes(row);
            tt_next_planes(0, 0, tt_add_even_pair(minus_zero, b), tt_add_odd_pair(minus_zero, b), to);
            row += channels;
        }
        for (const uint32_t *end = to[0] + plan->pairs; to[0] != end; row += 2 * channels) {
            const uint32_t a = tt_load_bytes(row), b = tt_load_bytes(row + channels);
            tt_next_planes(tt_add_even_pair(minus_zero, a), tt_add_odd_pair(minus_zero, a),
                           tt_add_even_pair(minus_zero, b), tt_add_odd_pair(minus_zero, b), to);
        }
        if (plan->last) {
            const uint32_t a = tt_load_bytes(row);
            tt_next_planes(tt_add_even_pair(minus_zero, a), tt_add_odd_pair(minus_zero, a), 0, 0, to);
        }
        for (int32_t i = plan->zeros_after; i > 0; i--) { tt_next_planes(0, 0, 0, 0, to); }
    }
}

#endif
