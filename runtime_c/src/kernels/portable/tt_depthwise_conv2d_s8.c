// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8 for a scalar core: channel by channel, four neighbouring outputs at a time, on a plane in
// scratch (tinytrain/plane.h), or on tiles of one as scratch allows. Windows too large for that go output by output.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/plane.h"
#include "tinytrain/portable.h"
#include "tinytrain/window.h"

typedef struct work {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
    tt_plane plane;
    int8_t *packed;         // weights of one channel, [KH, KW]
    int32_t rows, columns;  // outputs of a tile, whole groups of columns
} work;

// Elements of a plane for so many outputs.
static int32_t plane_rows(const tt_window *win, int32_t rows) {
    return (rows - 1) * win->stride_height + win->kernel_height;
}

static int32_t plane_step(const tt_window *win, int32_t columns) {
    return (columns - 1) * win->stride_width + win->kernel_width;
}

// How many rows of outputs of so many columns fit.
static int32_t rows_that_fit(const tt_window *win, int32_t columns, int32_t elements) {
    const int32_t more = elements / plane_step(win, columns) - win->kernel_height;
    return more < 0 ? 0 : tt_min(win->y_height, more / win->stride_height + 1);
}

static int8_t output_of(const work *k, const tt_channel *channel, int32_t co, int32_t sum) {
    return channel->right != 0 ? tt_fast_output(channel, sum) : tt_output_of(&k->output, sum, co);
}

static void fill(const work *k, int32_t ci, int clear) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const int32_t x_step = a->x_channels, zero_point = a->x_zero_point;
    const tt_shown shown = tt_shown_of(&k->plane, a->window.x_height, a->window.x_width);
    if (clear) { tt_clear_plane(&k->plane); }
    const int8_t *x = a->x + shown.start * x_step + ci;
    int16_t *to = k->plane.at + shown.row * k->plane.step + shown.column;
    for (int32_t row = 0; row < shown.rows; row++, x += a->window.x_width * x_step, to += k->plane.step) {
        const int8_t *from = x;
#pragma GCC unroll 4
        for (int32_t i = 0; i < shown.columns; i++, from += x_step) { to[i] = (int16_t)(*from - zero_point); }
    }
}

// Outputs of a tile that lie in the image.
TT_INNER_LOOP static void store_tile(const work *k, const tt_channel *channel, int32_t co, int32_t oy, int32_t ox) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t rows = tt_min(k->rows, win->y_height - oy), columns = tt_min(k->columns, win->y_width - ox);
    const int32_t next = a->y_channels;
    const int16_t *x_row = k->plane.at;
    int8_t *y_row = a->y + (oy * win->y_width + ox) * next + co;
    for (int32_t row = 0; row < rows; row++) {
        const int16_t *x = x_row;
        int8_t *y = y_row;
        for (int32_t left = columns; left > 0; left -= TT_PLANE_OUTPUTS) {
            int32_t sums[TT_PLANE_OUTPUTS] = {channel->start, channel->start, channel->start, channel->start};
            tt_add_any_windows(x, k->plane.step, k->packed, win->kernel_height, win->kernel_width, win->stride_width,
                               sums);
            if (channel->right != 0 && left >= TT_PLANE_OUTPUTS) {
                y[0] = tt_fast_output(channel, sums[0]);
                y[next] = tt_fast_output(channel, sums[1]);
                y[2 * next] = tt_fast_output(channel, sums[2]);
                y[3 * next] = tt_fast_output(channel, sums[3]);
            } else {
                const int32_t count = tt_min(left, TT_PLANE_OUTPUTS);
                for (int32_t i = 0; i < count; i++) { y[i * next] = output_of(k, channel, co, sums[i]); }
            }
            x += TT_PLANE_OUTPUTS * win->stride_width, y += TT_PLANE_OUTPUTS * next;
        }
        x_row += win->stride_height * k->plane.step, y_row += win->y_width * next;
    }
}

// Output by output: for windows that fit nowhere.
static void store_slow(const work *k, const tt_channel *channel, const tt_depthwise_block *block, int32_t c) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t co = block->start + c, ci = co / a->channel_multiplier, outputs = win->y_height * win->y_width;
    for (int32_t output = 0; output < outputs; output++) {
        const tt_patch at = tt_patch_of(win, output / win->y_width, output % win->y_width);
        int32_t sum = channel->start;
        for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
            for (int32_t kx = at.columns.first; kx < at.columns.last; kx++) {
                const int32_t pixel = (at.y0 + ky) * win->x_width + at.x0 + kx;
                sum += (a->x[pixel * a->x_channels + ci] - a->x_zero_point) *
                       block->weights[(ky * win->kernel_width + kx) * block->count + c];
            }
        }
        a->y[output * a->y_channels + co] = output_of(k, channel, co, sum);
    }
}

TT_INNER_LOOP static void store_channel(work *k, const tt_depthwise_block *block, int32_t c) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t co = block->start + c, window = win->kernel_height * win->kernel_width;
    const tt_channel channel = tt_channel_of(&k->output, co, 0, (int64_t)window * 255 * 128);
    if (k->rows == 0) {
        store_slow(k, &channel, block, c);
        return;
    }
    for (int32_t i = 0; i < window; i++) { k->packed[i] = block->weights[i * block->count + c]; }
    const int one = k->rows >= win->y_height && k->columns >= win->y_width;
    for (int32_t oy = 0; oy < win->y_height; oy += k->rows) {
        for (int32_t ox = 0; ox < win->y_width; ox += k->columns) {
            k->plane.top = oy * win->stride_height - win->pad_top;
            k->plane.left = ox * win->stride_width - win->pad_left;
            fill(k, co / a->channel_multiplier, !one || co == 0);  // what is outside the image stays 0
            store_tile(k, &channel, co, oy, ox);
        }
    }
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    int16_t small[TT_PLANE_ON_STACK];
    work k = {a, {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high, a->single_rounding},
              {a->scratch, 0, 0, 0, 0}, 0, 0, 0};
    int32_t room = a->scratch_bytes;
    if (room < (int32_t)sizeof small) { k.plane.at = small, room = (int32_t)sizeof small; }
    room = room / 2 - (win->kernel_height * win->kernel_width + 1) / 2;
    k.packed = (int8_t *)(k.plane.at + tt_max(0, room));
    k.columns = (win->y_width + TT_PLANE_OUTPUTS - 1) / TT_PLANE_OUTPUTS * TT_PLANE_OUTPUTS;
    k.rows = rows_that_fit(win, k.columns, room);
    if (k.rows < tt_min(2, win->y_height)) {
        k.columns = TT_PLANE_OUTPUTS;
        k.rows = rows_that_fit(win, k.columns, room);
    }
    k.plane.rows = plane_rows(win, k.rows), k.plane.step = plane_step(win, k.columns);
    for (int32_t i = 0; i < a->block_count; i++) {
        for (int32_t c = 0; c < a->blocks[i].count; c++) { store_channel(&k, &a->blocks[i], c); }
    }
}
