// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8: where each output has its own input channel, four channels share one walk over the window.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/window.h"

enum { LANES = 4 };

// Channels c to c + 3 of a block, each reading the input channel of its own number.
static void add_four(const tt_depthwise_conv2d_s8_args *a, const tt_depthwise_block *block, const tt_patch *at, int32_t c,
                     int32_t *sums) {
    const tt_window *win = &a->window;
    const int32_t zero_point = a->x_zero_point, x_step = a->x_channels, w_step = block->count;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + first) * x_step + block->start + c;
        const int8_t *w = block->weights + (ky * win->kernel_width + first) * w_step + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += x_step, w += w_step) {
            s0 += (x[0] - zero_point) * w[0];
            s1 += (x[1] - zero_point) * w[1];
            s2 += (x[2] - zero_point) * w[2];
            s3 += (x[3] - zero_point) * w[3];
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// Channel c of a block, reading input channel ci.
static int32_t sum_one(const tt_depthwise_conv2d_s8_args *a, const tt_depthwise_block *block, const tt_patch *at, int32_t c,
                       int32_t ci) {
    const tt_window *win = &a->window;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + first) * a->x_channels + ci;
        const int8_t *w = block->weights + (ky * win->kernel_width + first) * block->count + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->x_channels, w += block->count) {
            sum += (*x - a->x_zero_point) * *w;
        }
    }
    return sum;
}

static int8_t finish(const tt_depthwise_conv2d_s8_args *a, int32_t sum, int32_t co) {
    const int32_t total = tt_saturating_add(sum, a->bias[co]);
    const int32_t value = tt_requantize(total, a->multiplier[co], a->shift[co], a->single_rounding);
    return tt_clamped_output(value, a->y_zero_point, a->clamp_low, a->clamp_high);
}

static void pixel(const tt_depthwise_conv2d_s8_args *a, const tt_patch *at, int8_t *y) {
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        int32_t c = 0;
        if (a->channel_multiplier == 1) {
            for (; c + LANES <= block->count; c += LANES) {
                int32_t sums[LANES];
                add_four(a, block, at, c, sums);
                for (int32_t lane = 0; lane < LANES; lane++) {
                    *y++ = finish(a, sums[lane], block->start + c + lane);
                }
            }
        }
        for (; c < block->count; c++) {
            const int32_t co = block->start + c;
            *y++ = finish(a, sum_one(a, block, at, c, co / a->channel_multiplier), co);
        }
    }
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++, y += a->y_channels) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            pixel(a, &at, y);
        }
    }
}
