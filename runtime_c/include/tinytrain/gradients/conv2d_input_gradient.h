// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient: for each pixel of x, the scaled gradients of all outputs it took part in are gathered once.
#ifndef TINYTRAIN_GRADIENTS_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_GRADIENTS_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

// 256 products of a scaled gradient (int16) and an int8 weight fit 31 bits and a sign.
enum { CHUNK = 256 };

// scratch = gy * factor of the outputs that see the pixel, [outputs, y_channels].
static void gather(const tt_conv2d_input_gradient_args *a, const tt_cover *at) {
    int16_t *out = a->scratch;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, out += a->y_channels) {
            const tt_mantissa *gy = (const tt_mantissa *)a->gy + (oy * a->window.y_width + ox) * a->y_channels;
            for (int32_t co = 0; co < a->y_channels; co++) {
                out[co] = (int16_t)tt_scaled_gradient(gy[co], a->factors[co]);
            }
        }
    }
}

// The sum of g[co] * w[co] over `count` outputs, whose weights are `step` apart.
static int64_t sum_outputs(const int16_t *g, const int8_t *w, int32_t step, int32_t count) {
    int64_t sum = 0;
    for (int32_t start = 0; start < count; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, count);
        int32_t part = 0;
        for (int32_t co = start; co < end; co++, w += step) { part += g[co] * *w; }
        sum += part;
    }
    return sum;
}

// What a block knows about input channel ci, over all gathered outputs.
static int64_t sum_block(const tt_conv2d_input_gradient_args *a, const tt_weight_block *block, const tt_cover *at,
                         int32_t ci) {
    const tt_window *win = &a->window;
    const int32_t step = win->kernel_height * win->kernel_width * block->ci_count;
    const int16_t *g = a->scratch + block->co_start;
    int64_t sum = 0;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels) {
            const int32_t ky = at->y - oy * win->stride_height, kx = at->x - ox * win->stride_width;
            const int32_t first = (ky * win->kernel_width + kx) * block->ci_count + ci - block->ci_start;
            sum += sum_outputs(g, block->weights + first, step, block->co_count);
        }
    }
    return sum;
}

static inline void tt_conv2d_input_gradient(const tt_conv2d_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    tt_mantissa *gx = a->gx;
    for (int32_t pixel = 0; pixel < a->window.x_height * a->window.x_width; pixel++) {
        const tt_cover at = tt_cover_of(&a->window, pixel / a->window.x_width, pixel % a->window.x_width);
        gather(a, &at);
        for (int32_t ci = 0; ci < a->x_channels; ci++) {
            const int32_t index = pixel * a->x_channels + ci;
            int64_t sum = 0;
            for (int32_t i = 0; i < a->block_count; i++) {
                const tt_weight_block *block = &a->blocks[i];
                const int holds = ci >= block->ci_start && ci < block->ci_start + block->ci_count;
                if (holds) { sum += sum_block(a, block, &at, ci); }
            }
            const uint64_t magnitude = tt_store_sums(&rounding, &sum, 1, index, gx + index);
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

#endif
