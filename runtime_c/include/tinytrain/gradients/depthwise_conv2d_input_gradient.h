// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient: for each pixel of x, walk the outputs whose window covers it. Where each input
// channel has one output, four channels share the walk.
#ifndef TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/window.h"

enum { LANES = 4 };

typedef struct pixel {
    int32_t y, x;           // in the padded image
    tt_range rows, columns; // outputs whose window covers it
} pixel;

// Sums of gy * w over the outputs that cover the pixel, for channels c to c + 3 of a block.
static inline void sum_four(const tt_depthwise_conv2d_input_gradient_args *a, const tt_depthwise_block *block, const pixel *at,
                     int32_t c, int32_t *sums) {
    const tt_window *win = &a->window;
    const int32_t w_step = win->stride_width * block->count;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        const int32_t ky = at->y - oy * win->stride_height, kx = at->x - at->columns.first * win->stride_width;
        const tt_mantissa *g = (const tt_mantissa *)a->gy + (oy * win->y_width + at->columns.first) * a->y_channels + block->start + c;
        int32_t k = (ky * win->kernel_width + kx) * block->count + c;
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels, k -= w_step) {
            const int8_t *w = block->weights + k;
            s0 += g[0] * w[0];
            s1 += g[1] * w[1];
            s2 += g[2] * w[2];
            s3 += g[3] * w[3];
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static inline int32_t sum_one(const tt_depthwise_conv2d_input_gradient_args *a, const tt_depthwise_block *block,
                       const pixel *at, int32_t c) {
    const tt_window *win = &a->window;
    int32_t sum = 0;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        const int32_t ky = at->y - oy * win->stride_height, kx = at->x - at->columns.first * win->stride_width;
        const tt_mantissa *g = (const tt_mantissa *)a->gy + (oy * win->y_width + at->columns.first) * a->y_channels + block->start + c;
        int32_t k = (ky * win->kernel_width + kx) * block->count + c;
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels) {
            sum += *g * block->weights[k];
            k -= win->stride_width * block->count;
        }
    }
    return sum;
}

// Writes gx of one pixel, whose first element is `index`; returns the largest magnitude of its sums.
static inline uint64_t gather(const tt_depthwise_conv2d_input_gradient_args *a, const pixel *at, const tt_rounding *rounding,
                       int32_t index) {
    tt_mantissa *gx = a->gx;
    uint64_t largest = 0;
    int64_t total = 0;    // of one input channel
    int32_t position = 0; // of the next output channel among those of its input channel
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t c = 0, lanes = 0; c < block->count; c += lanes) {
            int32_t sums[LANES];
            lanes = a->channel_multiplier == 1 && block->count - c >= LANES ? LANES : 1;
            if (lanes == LANES) {
                sum_four(a, block, at, c, sums);
            } else {
                sums[0] = sum_one(a, block, at, c);
            }
            for (int32_t lane = 0; lane < lanes; lane++) {
                total += (int64_t)sums[lane] * a->factors[block->start + c + lane];
                if (++position < a->channel_multiplier) { continue; }
                if (tt_magnitude(total) > largest) { largest = tt_magnitude(total); }
                gx[index] = tt_to_mantissa(rounding, total, index);
                index++;
                total = 0, position = 0;
            }
        }
    }
    return largest;
}

static inline void tt_depthwise_conv2d_input_gradient(const tt_depthwise_conv2d_input_gradient_args *a) {
    const tt_window *win = &a->window;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    int32_t index = 0;
    for (int32_t py = 0; py < win->x_height; py++) {
        for (int32_t px = 0; px < win->x_width; px++, index += a->x_channels) {
            const pixel at = {
                py + win->pad_top, px + win->pad_left,
                tt_outputs_over(py, win->kernel_height, win->stride_height, win->pad_top, win->y_height),
                tt_outputs_over(px, win->kernel_width, win->stride_width, win->pad_left, win->y_width)};
            const uint64_t magnitude = gather(a, &at, &rounding, index);
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

#endif
