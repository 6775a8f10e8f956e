// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8 for a scalar core: 2 pixels x 2 output channels share each load. x is taken as it is; its zero point
// times the sum of the weights is where a channel's sums start. Where a weight is cut between inputs, those of a pair
// are brought together in scratch. Pixels of a 1 x 1 window are read in place, those of larger ones are gathered in
// scratch, with the zero point as padding.
#include <string.h>

#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/portable.h"
#include "tinytrain/window.h"

// Rows of inputs, one per pixel, [count, step].
typedef struct pixels {
    const int8_t *x;
    int32_t step, count;
    int8_t *y;
} pixels;

// One or two output channels; a single one is both.
typedef struct pair {
    int32_t co, second;       // second: 1, or 0
    const int8_t *w[2];       // [inputs]
    tt_channel channels[2];
} pair;

// Four sums, [x, x1] [w, w1] row by column.
typedef struct sums {
    int32_t s00, s01, s10, s11;
} sums;

#if defined(__ARM_ARCH_6M__)
// Eight registers hold two sums: one channel at a time.
TT_INNER_LOOP static void add_channel(const int8_t *x, const int8_t *x1, const int8_t *w, int32_t count,
                                      int32_t *first, int32_t *second) {
    int32_t s = *first, s1 = *second;
    for (int32_t i = count - 1; i >= 0; i--) {
        const int32_t weight = w[i];
        s += x[i] * weight;
        s1 += x1[i] * weight;
    }
    *first = s, *second = s1;
}

static inline void add_products(const int8_t *x, const int8_t *x1, const int8_t *w, const int8_t *w1, int32_t count,
                                sums *to) {
    add_channel(x, x1, w, count, &to->s00, &to->s10);
    add_channel(x, x1, w1, count, &to->s01, &to->s11);
}
#else
TT_ALWAYS_INLINE static inline void add_products(const int8_t *x, const int8_t *x1, const int8_t *w, const int8_t *w1,
                                                 int32_t count, sums *to) {
    int32_t s00 = to->s00, s01 = to->s01, s10 = to->s10, s11 = to->s11;
#define TT_STEP(i)                                                     \
    {                                                                  \
        const int32_t a = x[i], b = x1[i], c = w[i], d = w1[i];        \
        s00 += a * c, s01 += a * d, s10 += b * c, s11 += b * d;        \
    }
    for (; count >= 8; count -= 8, x += 8, x1 += 8, w += 8, w1 += 8) {
        TT_STEP(0) TT_STEP(1) TT_STEP(2) TT_STEP(3) TT_STEP(4) TT_STEP(5) TT_STEP(6) TT_STEP(7)
    }
    if (count > 0) {
        if (count & 4) {
            TT_STEP(0) TT_STEP(1) TT_STEP(2) TT_STEP(3)
            x += 4, x1 += 4, w += 4, w1 += 4;
        }
        if (count & 2) {
            TT_STEP(0) TT_STEP(1)
            x += 2, x1 += 2, w += 2, w1 += 2;
        }
        if (count & 1) { TT_STEP(0) }
    }
#undef TT_STEP
    to->s00 = s00, to->s01 = s01, to->s10 = s10, to->s11 = s11;
}
#endif

static int8_t output_of(const tt_output *output, const pair *p, int32_t which, int32_t sum) {
    const tt_channel *channel = &p->channels[which];
    return channel->right != 0 ? tt_fast_output(channel, sum) : tt_output_of(output, sum, p->co + which);
}

// Where not all four sums are outputs, or not all by the fast way.
TT_INNER_LOOP static void store_some(const tt_output *output, const pair *p, const sums *from, int8_t *y,
                                     int32_t y_step, int32_t pixels_left) {
    y[0] = output_of(output, p, 0, from->s00);
    if (p->second) { y[1] = output_of(output, p, 1, from->s01); }
    if (pixels_left == 1) { return; }
    y[y_step] = output_of(output, p, 0, from->s10);
    if (p->second) { y[y_step + 1] = output_of(output, p, 1, from->s11); }
}

TT_INNER_LOOP static void store_pair(const tt_output *output, const pixels *rows, const pair *p, int32_t inputs,
                                     int32_t y_step) {
    const int fast = p->second && p->channels[0].right != 0 && p->channels[1].right != 0;
    const int8_t *x = rows->x, *w = p->w[0], *w1 = p->w[1];
    int8_t *y = rows->y + p->co;
    for (int32_t left = rows->count; left > 0; left -= 2, x += 2 * rows->step, y += 2 * y_step) {
        sums to = {p->channels[0].start, p->channels[1].start, p->channels[0].start, p->channels[1].start};
        add_products(x, left > 1 ? x + rows->step : x, w, w1, inputs, &to);
        if (!fast || left == 1) {
            store_some(output, p, &to, y, y_step, left);
            continue;
        }
        y[0] = tt_fast_output(&p->channels[0], to.s00);
        y[1] = tt_fast_output(&p->channels[1], to.s01);
        y[y_step] = tt_fast_output(&p->channels[0], to.s10);
        y[y_step + 1] = tt_fast_output(&p->channels[1], to.s11);
    }
}

static int holds(const tt_weight_block *block, int32_t co) {
    return co >= block->co_start && co < block->co_start + block->co_count;
}

// The weights of an output channel as one run: where they are, or brought together.
static const int8_t *weights_of(const tt_conv2d_s8_args *a, int32_t co, int8_t *to) {
    const int32_t positions = a->window.kernel_height * a->window.kernel_width;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        if (!holds(block, co)) { continue; }
        const int8_t *w = block->weights + (co - block->co_start) * positions * block->ci_count;
        if (block->ci_count == a->x_channels) { return w; }
        for (int32_t k = 0; k < positions; k++, w += block->ci_count) {
            memcpy(to + k * a->x_channels + block->ci_start, w, (size_t)block->ci_count);
        }
    }
    return to;
}

static tt_channel channel_of(const tt_conv2d_s8_args *a, const tt_output *output, int32_t co, const int8_t *w,
                             int32_t inputs) {
    int32_t sum = 0;
#pragma GCC unroll 8
    for (int32_t i = 0; i < inputs; i++) { sum += w[i]; }
    return tt_channel_of(output, co, -a->x_zero_point * sum, (int64_t)inputs * 255 * 128);
}

// All pairs of channels; `room` holds the weights of one.
static void store_pixels(const tt_conv2d_s8_args *a, const tt_output *output, const pixels *rows, int8_t *room) {
    const int32_t inputs = a->window.kernel_height * a->window.kernel_width * a->x_channels;
    for (int32_t co = 0; co < a->y_channels; co += 2) {
        pair p = {co, co + 1 < a->y_channels, {0}, {{0}}};
        for (int32_t i = 0; i < 2; i++) {
            const int32_t channel = co + i * p.second;
            p.w[i] = weights_of(a, channel, room + i * inputs);
            p.channels[i] = channel_of(a, output, channel, p.w[i], inputs);
        }
        store_pair(output, rows, &p, inputs, a->y_channels);
    }
}

// A few bytes: in less than it takes to call memcpy, which goes byte by byte where small C libraries have it.
static inline void copy(const int8_t *from, int32_t count, int8_t *to) {
#if defined(__ARM_FEATURE_UNALIGNED)
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        int32_t word;
        memcpy(&word, from, sizeof word);
        memcpy(to, &word, sizeof word);
    }
    if (count & 2) {
        int16_t half;
        memcpy(&half, from, sizeof half);
        memcpy(to, &half, sizeof half);
        from += 2, to += 2;
    }
    if (count & 1) { *to = *from; }
#else
    memcpy(to, from, (size_t)count);
#endif
}

// The inputs of one output.
static void gather(const tt_conv2d_s8_args *a, int32_t pixel, int8_t *to) {
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, pixel / win->y_width, pixel % win->y_width);
    const int32_t width = win->kernel_width * a->x_channels, start = at.columns.first * a->x_channels;
    const int32_t run = tt_max(0, at.columns.last - at.columns.first) * a->x_channels;
    if (run < width || at.rows.last - at.rows.first < win->kernel_height) {
        memset(to, a->x_zero_point, (size_t)(win->kernel_height * width));
    }
    for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0 + at.columns.first) * a->x_channels;
        copy(x, run, to + ky * width + start);
    }
}

static int in_place(const tt_window *win) {
    return win->kernel_height == 1 && win->kernel_width == 1 && win->stride_height == 1 && win->stride_width == 1 &&
           win->y_height == win->x_height && win->y_width == win->x_width;
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const int32_t count = win->y_height * win->y_width;
    int8_t *weights = a->scratch;
    if (in_place(win)) {
        const pixels rows = {a->x, a->x_channels, count, a->y};
        store_pixels(a, &output, &rows, weights);
        return;
    }
    const int32_t inputs = win->kernel_height * win->kernel_width * a->x_channels, room = a->scratch_bytes / inputs - 2;
    int8_t *gathered = weights + 2 * inputs;
    for (int32_t start = 0; start < count; start += room) {
        const pixels rows = {gathered, inputs, tt_min(room, count - start), a->y + start * a->y_channels};
        for (int32_t i = 0; i < rows.count; i++) { gather(a, start + i, gathered + i * inputs); }
        store_pixels(a, &output, &rows, weights);
    }
}
