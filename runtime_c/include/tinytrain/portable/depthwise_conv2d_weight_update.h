// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update_s16: the weights of four channels at a kernel position share one walk over the
// image. Several outputs for an input, and blocks of less than four channels, take the reference's way.
//
// A twin that adds pixels up in a way of its own defines TT_ADDS_PIXELS before this is included, and tt_add_pixels.
#ifndef TINYTRAIN_PORTABLE_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_PORTABLE_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/fast_update.h"
#include "tinytrain/gradients/depthwise_conv2d_weight_update.h"

enum { TT_WEIGHT_LANES = 4 };

// Rows of pixels, at most TT_WEIGHT_GRADIENT_CHUNK in all. Steps are elements: from pixel to pixel, skips from the end
// of a row to the next one.
typedef struct tt_pixels {
    const int8_t *x;
    const int16_t *gy;
    int32_t rows, columns;
    int32_t x_step, gy_step;
    int32_t x_skip, gy_skip;
    int32_t x_zero_point;
} tt_pixels;

// Adds the products of pixels, x less the zero point times gy, to the sums of four channels.
#ifdef TT_ADDS_PIXELS
static void tt_add_pixels(int32_t *sums, const tt_pixels *p);
#else
TT_INNER_LOOP static void tt_add_pixels(int32_t *sums, const tt_pixels *p) {
    const int32_t x_step = p->x_step, gy_step = p->gy_step;
    const int32_t zero_point = p->x_zero_point;
    const int8_t *x = p->x;
    const int16_t *gy = p->gy;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (int32_t rows = p->rows; rows > 0; rows--, x += p->x_skip, gy += p->gy_skip) {
        for (int32_t left = p->columns; left > 0; left--, x += x_step, gy += gy_step) {
            s0 += (x[0] - zero_point) * gy[0];
            s1 += (x[1] - zero_point) * gy[1];
            s2 += (x[2] - zero_point) * gy[2];
            s3 += (x[3] - zero_point) * gy[3];
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif

// Exact gradients of the block's channels c to c + 3.
TT_INNER_LOOP static void tt_sum_lanes(const tt_depthwise_conv2d_weight_update_args *a, const tt_meeting *m, int32_t c,
                                       int64_t *totals) {
    const tt_window *win = &a->window;
    const int32_t x_row = win->stride_height * win->x_width * a->x_channels, gy_row = win->y_width * a->y_channels;
    const int8_t *x = a->x + m->pixel * a->x_channels + c;  // x holds the block's channels alone
    const int16_t *gy = (const int16_t *)a->gy + m->output * a->y_channels + a->start + c;
    tt_pixels p = {.x_step = win->stride_width * a->x_channels, .gy_step = a->y_channels,
                   .x_zero_point = a->x_zero_point};
    for (int32_t i = 0; i < TT_WEIGHT_LANES; i++) { totals[i] = 0; }
    if (m->rows <= 0 || m->columns <= 0) { return; }
    const int32_t rows = tt_max(1, TT_WEIGHT_GRADIENT_CHUNK / m->columns);
    const int32_t columns = tt_min(TT_WEIGHT_GRADIENT_CHUNK, m->columns);
    for (int32_t row = 0; row < m->rows; row += p.rows) {
        p.rows = tt_min(rows, m->rows - row);
        for (int32_t column = 0; column < m->columns; column += p.columns) {
            int32_t sums[TT_WEIGHT_LANES] = {0, 0, 0, 0};
            p.columns = tt_min(columns, m->columns - column);
            p.x = x + row * x_row + column * p.x_step;
            p.gy = gy + row * gy_row + column * p.gy_step;
            p.x_skip = x_row - p.columns * p.x_step, p.gy_skip = gy_row - p.columns * p.gy_step;
            tt_add_pixels(sums, &p);
            for (int32_t i = 0; i < TT_WEIGHT_LANES; i++) { totals[i] += sums[i]; }
        }
    }
}

// The block's channels c to c + 3, of which the first `done` have their new weights.
static inline void tt_update_lanes(const tt_depthwise_conv2d_weight_update_args *a, int32_t c, int32_t done,
                                   tt_clipping *clipping) {
    tt_fast_rate rates[TT_WEIGHT_LANES];
    for (int32_t i = 0; i < TT_WEIGHT_LANES; i++) { rates[i] = tt_fast_rate_of(&a->update, c + i); }
    int32_t index = c;
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, index += a->count) {
            const tt_meeting meeting = tt_meeting_of(&a->window, ky, kx);
            int64_t totals[TT_WEIGHT_LANES];
            tt_sum_lanes(a, &meeting, c, totals);
            for (int32_t i = done; i < TT_WEIGHT_LANES; i++) {
                if (rates[i].right != 0) {
                    tt_fast_update(&a->update, &rates[i], (uint32_t)(index + i), (int32_t)totals[i]);
                } else {
                    tt_update_any(&a->update, clipping, c + i, (uint32_t)(index + i), totals[i]);
                }
            }
        }
    }
}

TT_RARE static void tt_update_by_reference(const tt_depthwise_conv2d_weight_update_args *a) {
    tt_depthwise_conv2d_weight_update(a);
}

static inline void tt_update_depthwise_weights(const tt_depthwise_conv2d_weight_update_args *a) {
    if (a->channel_multiplier != 1 || a->count < TT_WEIGHT_LANES) {
        tt_update_by_reference(a);
        return;
    }
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t done = 0; done < a->count; done += TT_WEIGHT_LANES) {
        const int32_t c = tt_min(done, a->count - TT_WEIGHT_LANES);
        tt_update_lanes(a, c, done - c, &clipping);
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
