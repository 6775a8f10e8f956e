// SPDX-License-Identifier: Apache-2.0
// The gradients of neighbouring weights of a sliding window.
#ifndef TINYTRAIN_VECTORS_WEIGHT_GRADIENT_H
#define TINYTRAIN_VECTORS_WEIGHT_GRADIENT_H

#include "tinytrain/vectors/gradient.h"
#include "tinytrain/weight_gradient.h"

// How lanes differ: in the input channel (all share one gradient), in the output channel (all share one x), or in both.
enum tt_lanes_over { TT_OVER_INPUTS, TT_OVER_OUTPUTS, TT_OVER_BOTH };

// Exact gradients of neighbouring weights at one kernel position; ci and co are the channels of the first.
TT_ALWAYS_INLINE static inline void tt_weight_gradients(const tt_gradient_source *s, const tt_meeting *m, int32_t ci,
                                                        int32_t co, enum tt_lanes_over over, int64_t *sums,
                                                        int32_t vectors) {
    const int32_t x_step = s->window->stride_width * s->x_channels, gy_step = s->y_channels;
    const int32_t zero_point = s->x_zero_point;
    int32_t room = TT_WEIGHT_GRADIENT_CHUNK;
    tt_vector parts[TT_VECTORS];
    TT_EACH_VECTOR(v, vectors) { parts[v] = tt_vector_of(0); }
    for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) { sums[i] = 0; }
    for (int32_t row = 0; row < m->rows; row++) {
        const int32_t pixel = m->pixel + row * s->window->stride_height * s->window->x_width;
        const int8_t *x = s->x + pixel * s->x_channels + ci;
        const tt_mantissa *gy = s->gy + (m->output + row * s->window->y_width) * gy_step + co;
        for (int32_t left = m->columns; left > 0; left--, x += x_step, gy += gy_step) {
            if (room-- == 0) {
                tt_add_lanes(sums, parts, vectors);
                TT_EACH_VECTOR(v, vectors) { parts[v] = tt_vector_of(0); }
                room = TT_WEIGHT_GRADIENT_CHUNK - 1;
            }
            TT_EACH_VECTOR(v, vectors) {
                const int32_t i = v * TT_VECTOR_LANES;
                if (over == TT_OVER_INPUTS) {
                    parts[v] += *gy * (tt_load_s8(x + i) - zero_point);
                } else if (over == TT_OVER_OUTPUTS) {
                    parts[v] += tt_load_mantissas(gy + i) * (*x - zero_point);
                } else {
                    parts[v] += tt_load_mantissas(gy + i) * (tt_load_s8(x + i) - zero_point);
                }
            }
        }
    }
    tt_add_lanes(sums, parts, vectors);
}

#endif
