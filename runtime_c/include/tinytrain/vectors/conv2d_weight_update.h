// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update: neighbouring input channels of one output channel share each load of its gradient. Where
// there are too few of them, neighbouring output channels share each load of x.
#ifndef TINYTRAIN_VECTORS_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_VECTORS_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/fast_update.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/vectors/weight_gradient.h"

typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_gradient_source source;
    tt_meeting meeting;  // of the kernel position
    int32_t position;    // ky * kernel width + kx
    tt_clipping *clipping;
} work;

TT_INNER_LOOP static void sum_vectors(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_INPUTS, sums, TT_VECTORS);
}

TT_INNER_LOOP static void sum_vector(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_INPUTS, sums, 1);
}

TT_INNER_LOOP static void sum_outputs(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_OUTPUTS, sums, 1);
}

// The place of a weight in its block; co counts from the block's first.
static uint32_t index_of(const work *w, int32_t co, int32_t ci) {
    const int32_t positions = w->args->window.kernel_height * w->args->window.kernel_width;
    return (uint32_t)((co * positions + w->position) * w->args->x_channels + ci);
}

static inline void update(const work *w, const tt_fast_rate *rate, uint32_t index, int64_t sum) {
    if (rate->right != 0) {
        tt_fast_update(&w->args->update, rate, index, (int32_t)sum);
    } else {
        tt_update_element(&w->args->update, &rate->rate, index, tt_clipped(w->clipping, sum));
    }
}

static void update_inputs(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    for (int32_t co = 0; co < a->co_count; co++) {
        const tt_fast_rate rate = tt_fast_rate_of(&a->update, co);
        for (int32_t done = 0; done < a->x_channels;) {
            const tt_tile tile = tt_next_tile(done, a->x_channels);
            const uint32_t first = index_of(w, co, tile.start);
            int64_t sums[TT_LANES];
            if (tile.lanes == TT_LANES) {
                sum_vectors(w, tile.start, a->co_start + co, sums);
            } else {
                sum_vector(w, tile.start, a->co_start + co, sums);
            }
            for (int32_t i = tile.known; i < tile.lanes; i++) { update(w, &rate, first + (uint32_t)i, sums[i]); }
            done = tile.start + tile.lanes;
        }
    }
}

// For fewer than TT_VECTOR_LANES input channels.
static void update_outputs(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    for (int32_t co = 0, lanes = 0; co < a->co_count; co += lanes) {
        tt_fast_rate rates[TT_VECTOR_LANES];
        lanes = a->co_count - co >= TT_VECTOR_LANES ? TT_VECTOR_LANES : 1;
        for (int32_t i = 0; i < lanes; i++) { rates[i] = tt_fast_rate_of(&a->update, co + i); }
        for (int32_t ci = 0; ci < a->x_channels; ci++) {
            int64_t sums[TT_VECTOR_LANES];
            if (TT_VECTOR_LANES > 1 && lanes == TT_VECTOR_LANES) {
                sum_outputs(w, ci, a->co_start + co, sums);
            } else {
                sums[0] = tt_weight_gradient(&w->source, &w->meeting, ci, a->co_start + co);
            }
            for (int32_t i = 0; i < lanes; i++) { update(w, &rates[i], index_of(w, co + i, ci), sums[i]); }
        }
    }
}

static inline void tt_conv2d_weight_update(const tt_conv2d_weight_update_args *a) {
    tt_clipping clipping = tt_clip_begin(&a->update);
    work w = {a, {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels}, {0, 0, 0, 0}, 0, &clipping};
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, w.position++) {
            w.meeting = tt_meeting_of(&a->window, ky, kx);
            if (TT_VECTOR_LANES == 1 || a->x_channels >= TT_VECTOR_LANES) {
                update_inputs(&w);
            } else {
                update_outputs(&w);
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
