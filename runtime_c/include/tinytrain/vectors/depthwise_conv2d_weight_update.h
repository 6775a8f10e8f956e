// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update: where each output has its own input channel, neighbouring channels share one walk
// over the image.
#ifndef TINYTRAIN_VECTORS_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_VECTORS_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/update.h"
#include "tinytrain/vectors/weight_gradient.h"

TT_INNER_LOOP static void sum_vectors(const tt_gradient_source *s, const tt_meeting *m, int32_t ci, int32_t co,
                                      int64_t *sums) {
    tt_weight_gradients(s, m, ci, co, TT_OVER_BOTH, sums, TT_VECTORS);
}

TT_INNER_LOOP static void sum_vector(const tt_gradient_source *s, const tt_meeting *m, int32_t ci, int32_t co,
                                     int64_t *sums) {
    tt_weight_gradients(s, m, ci, co, TT_OVER_BOTH, sums, 1);
}

// All kernel positions of a tile of channels; ci is the input channel of the first one.
static void update_channels(const tt_depthwise_conv2d_weight_update_args *a, const tt_tile *tile, int32_t ci,
                            tt_clipping *clipping) {
    const tt_gradient_source source = {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels};
    const int32_t co = a->start + tile->start;
    tt_rate rates[TT_LANES];
    int32_t index = tile->start;
    for (int32_t i = tile->known; i < tile->lanes; i++) { rates[i] = tt_rate_of_channel(&a->update, tile->start + i); }
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, index += a->count) {
            const tt_meeting meeting = tt_meeting_of(&a->window, ky, kx);
            int64_t sums[TT_LANES];
            if (tile->lanes == TT_LANES) {
                sum_vectors(&source, &meeting, ci, co, sums);
            } else if (TT_VECTOR_LANES > 1 && tile->lanes == TT_VECTOR_LANES) {
                sum_vector(&source, &meeting, ci, co, sums);
            } else {
                sums[0] = tt_weight_gradient(&source, &meeting, ci, co);
            }
            for (int32_t i = tile->known; i < tile->lanes; i++) {
                tt_update_element(&a->update, &rates[i], (uint32_t)(index + i), tt_clipped(clipping, sums[i]));
            }
        }
    }
}

static inline void tt_depthwise_conv2d_weight_update(const tt_depthwise_conv2d_weight_update_args *a) {
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t done = 0; done < a->count;) {
        const tt_tile one = {done, 1, 0};
        const tt_tile tile = a->channel_multiplier == 1 ? tt_next_tile(done, a->count) : one;
        update_channels(a, &tile, (a->first_position + tile.start) / a->channel_multiplier, &clipping);
        done = tile.start + tile.lanes;
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
