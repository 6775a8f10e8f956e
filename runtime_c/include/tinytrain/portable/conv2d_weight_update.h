// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update for a scalar core: the weights of 2 output x 4 input channels share one walk over the
// pixels. x is taken as it is; its zero point times the sum of the gradients is subtracted at the end. What is left
// over, an odd output channel or fewer than 4 input channels, goes weight by weight.
#ifndef TINYTRAIN_PORTABLE_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_PORTABLE_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/fast_update.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/weight_gradient.h"

enum { OUTPUTS = 2, INPUTS = 4, TILE = OUTPUTS * INPUTS };

typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_gradient_source source;
    tt_meeting meeting;            // of the kernel position
    int32_t position;              // ky * kernel width + kx
    int32_t co;                    // of the block
    tt_fast_rate rates[OUTPUTS];
    int64_t offsets[OUTPUTS];      // zero point times the sum of gradients
    tt_clipping *clipping;
} work;

// sums += gy[pixel, co] * x[pixel, ci] over `count` pixels of a row.
TT_INNER_LOOP static void add_row(const tt_mantissa *g, int32_t g_step, const int8_t *x, int32_t x_step, int32_t count,
                                  int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    int32_t s4 = sums[4], s5 = sums[5], s6 = sums[6], s7 = sums[7];
    for (; count > 0; count--, g += g_step, x += x_step) {
        const int32_t a = g[0], b = g[1];
        s0 += a * x[0], s4 += b * x[0];
        s1 += a * x[1], s5 += b * x[1];
        s2 += a * x[2], s6 += b * x[2];
        s3 += a * x[3], s7 += b * x[3];
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

// Rows of a meeting as one, where they follow each other in both images.
static tt_meeting joined(const tt_window *win, tt_meeting m) {
    if (win->stride_width == 1 && m.columns == win->y_width && m.columns == win->x_width && win->stride_height == 1) {
        m.columns *= m.rows, m.rows = m.rows > 0;
    }
    return m;
}

static const tt_mantissa *gradients_of(const work *k, int32_t row) {
    const tt_conv2d_weight_update_args *a = k->args;
    const int32_t output = k->meeting.output + row * a->window.y_width;
    return (const tt_mantissa *)a->gy + output * a->y_channels + a->co_start + k->co;
}

static void sum_gradients(work *k) {
    k->offsets[0] = 0, k->offsets[1] = 0;
    for (int32_t row = 0; row < k->meeting.rows && k->args->x_zero_point != 0; row++) {
        const tt_mantissa *g = gradients_of(k, row);
        for (int32_t done = 0; done < k->meeting.columns; done += TT_WEIGHT_GRADIENT_CHUNK) {
            const int32_t count = tt_min(TT_WEIGHT_GRADIENT_CHUNK, k->meeting.columns - done);
            int32_t first = 0, second = 0;
            for (int32_t i = 0; i < count; i++, g += k->args->y_channels) { first += g[0], second += g[1]; }
            k->offsets[0] += (int64_t)first * k->args->x_zero_point;
            k->offsets[1] += (int64_t)second * k->args->x_zero_point;
        }
    }
}

// totals = the exact gradients of a tile.
TT_INNER_LOOP static void sum_tile(const work *k, int32_t ci, int64_t *totals) {
    const tt_conv2d_weight_update_args *a = k->args;
    const int32_t x_step = a->window.stride_width * a->x_channels;
    int32_t sums[TILE] = {0}, room = TT_WEIGHT_GRADIENT_CHUNK;
    for (int32_t i = 0; i < TILE; i++) { totals[i] = -k->offsets[i / INPUTS]; }
    for (int32_t row = 0; row < k->meeting.rows; row++) {
        const int32_t pixel = k->meeting.pixel + row * a->window.stride_height * a->window.x_width;
        const int8_t *x = a->x + pixel * a->x_channels + ci;
        const tt_mantissa *g = gradients_of(k, row);
        for (int32_t left = k->meeting.columns, count; left > 0; left -= count) {
            count = tt_min(left, room);
            add_row(g, a->y_channels, x, x_step, count, sums);
            g += count * a->y_channels, x += count * x_step, room -= count;
            if (room > 0) { continue; }
            for (int32_t i = 0; i < TILE; i++) { totals[i] += sums[i], sums[i] = 0; }
            room = TT_WEIGHT_GRADIENT_CHUNK;
        }
    }
    for (int32_t i = 0; i < TILE; i++) { totals[i] += sums[i]; }
}

// The place of a weight in its block.
static uint32_t index_of(const work *k, int32_t co, int32_t ci) {
    const int32_t positions = k->args->window.kernel_height * k->args->window.kernel_width;
    return (uint32_t)((co * positions + k->position) * k->args->x_channels + ci);
}

// Weights of one output channel, from gradients of the input channels `known` to INPUTS - 1 of a tile.
TT_INNER_LOOP static void update_row(const work *k, int32_t output, int32_t ci, int32_t known, const int64_t *totals) {
    const tt_update *u = &k->args->update;
    const tt_fast_rate *fast = &k->rates[output];
    const uint32_t index = index_of(k, k->co + output, ci);
    for (int32_t i = known; i < INPUTS; i++) {
        if (fast->right != 0) {
            tt_fast_update(u, fast, index + (uint32_t)i, (int32_t)totals[i]);
        } else {
            tt_update_element(u, &fast->rate, index + (uint32_t)i, tt_clipped(k->clipping, totals[i]));
        }
    }
}

TT_INNER_LOOP static void update_one(const work *k, int32_t output, int32_t ci) {
    const int32_t co = k->args->co_start + k->co + output;
    const int64_t total = tt_weight_gradient(&k->source, &k->meeting, ci, co);
    const uint32_t index = index_of(k, k->co + output, ci);
    tt_update_element(&k->args->update, &k->rates[output].rate, index, tt_clipped(k->clipping, total));
}

// `count` output channels, one or two, at one kernel position.
static void update_position(work *k, int32_t count) {
    const int32_t inputs = k->args->x_channels;
    if (count < OUTPUTS || inputs < INPUTS) {
        for (int32_t i = 0; i < count * inputs; i++) { update_one(k, i / inputs, i % inputs); }
        return;
    }
    sum_gradients(k);
    for (int32_t done = 0; done < inputs; done += INPUTS) {
        const int32_t ci = tt_min(done, inputs - INPUTS);
        int64_t totals[TILE];
        sum_tile(k, ci, totals);
        update_row(k, 0, ci, done - ci, totals);
        update_row(k, 1, ci, done - ci, totals + INPUTS);
    }
}

static inline void tt_portable_weight_update(const tt_conv2d_weight_update_args *a) {
    const tt_window *win = &a->window;
    tt_clipping clipping = tt_clip_begin(&a->update);
    work k = {.args = a, .source = {a->x, a->gy, win, a->x_zero_point, a->x_channels, a->y_channels},
              .clipping = &clipping};
    for (; k.co < a->co_count; k.co += OUTPUTS) {
        const int32_t count = tt_min(OUTPUTS, a->co_count - k.co);
        for (int32_t i = 0; i < count; i++) { k.rates[i] = tt_fast_rate_of(&a->update, k.co + i); }
        k.position = 0;
        for (int32_t ky = 0; ky < win->kernel_height; ky++) {
            for (int32_t kx = 0; kx < win->kernel_width; kx++, k.position++) {
                k.meeting = joined(win, tt_meeting_of(win, ky, kx));
                update_position(&k, count);
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
