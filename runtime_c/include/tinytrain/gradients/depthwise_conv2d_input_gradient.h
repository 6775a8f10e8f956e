// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient: for each pixel of x, walk the outputs whose window covers it.
#ifndef TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/window.h"

// factor * sum of gy * w over the outputs that cover the pixel, for channel c of a block.
static int64_t sum_channel(const tt_depthwise_conv2d_input_gradient_args *a, const tt_depthwise_block *block,
                           const tt_cover *at, int32_t c) {
    const tt_window *win = &a->window;
    int32_t sum = 0;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++) {
            const int32_t ky = at->y - oy * win->stride_height, kx = at->x - ox * win->stride_width;
            const int32_t output = (oy * win->y_width + ox) * a->y_channels + block->start + c;
            sum += ((const tt_mantissa *)a->gy)[output] *
                   block->weights[(ky * win->kernel_width + kx) * block->count + c];
        }
    }
    return (int64_t)sum * a->factors[block->start + c];
}

// gx of one pixel, whose first element is `index`; returns the largest magnitude of its sums. The output channels of an
// input channel may lie in different blocks.
static uint64_t store_pixel(const tt_depthwise_conv2d_input_gradient_args *a, const tt_cover *at,
                            const tt_rounding *rounding, int32_t index) {
    tt_mantissa *gx = a->gx;
    uint64_t largest = 0;
    int64_t total = 0;     // of one input channel
    int32_t position = 0;  // of the next output channel among those of its input channel
    for (int32_t i = 0; i < a->block_count; i++) {
        for (int32_t c = 0; c < a->blocks[i].count; c++) {
            total += sum_channel(a, &a->blocks[i], at, c);
            if (++position < a->channel_multiplier) { continue; }
            const uint64_t magnitude = tt_store_sums(rounding, &total, 1, index, gx + index);
            if (magnitude > largest) { largest = magnitude; }
            total = 0, position = 0, index++;
        }
    }
    return largest;
}

// All pixels; returns the largest magnitude.
static uint64_t store_all_pixels(const tt_depthwise_conv2d_input_gradient_args *a, const tt_rounding *rounding) {
    uint64_t largest = 0;
    for (int32_t pixel = 0; pixel < a->window.x_height * a->window.x_width; pixel++) {
        const tt_cover at = tt_cover_of(&a->window, pixel / a->window.x_width, pixel % a->window.x_width);
        const uint64_t magnitude = store_pixel(a, &at, rounding, pixel * a->x_channels);
        if (magnitude > largest) { largest = magnitude; }
    }
    return largest;
}

// After the begin of a step; ends it.
static inline void tt_depthwise_input_gradients(const tt_depthwise_conv2d_input_gradient_args *a,
                                                const tt_rounding *rounding, int32_t sums_exponent) {
    tt_exponent_end(a->gx_exponent, store_all_pixels(a, rounding), sums_exponent);
}

static inline void tt_depthwise_conv2d_input_gradient(const tt_depthwise_conv2d_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    tt_depthwise_input_gradients(a, &rounding, sums_exponent);
}

#endif
