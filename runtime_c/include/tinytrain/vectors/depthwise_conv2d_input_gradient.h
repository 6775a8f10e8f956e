// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient: for each pixel of x, walk the outputs whose window covers it. Where each input
// channel has one output, neighbouring channels share the walk.
#ifndef TINYTRAIN_VECTORS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_VECTORS_DEPTHWISE_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/vectors/gradient.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/window.h"

// totals = factor * sum of gy * w over the outputs that cover the pixel, for `vectors` vectors of channels from c on.
TT_ALWAYS_INLINE static inline void sum_window(const tt_depthwise_conv2d_input_gradient_args *a,
                                               const tt_depthwise_block *block, const tt_cover *at, int32_t c,
                                               int64_t *totals, int32_t vectors) {
    const tt_window *win = &a->window;
    const int32_t kx = at->x - at->columns.first * win->stride_width, w_step = win->stride_width * block->count;
    int32_t sums[TT_LANES];
    tt_vector parts[TT_VECTORS];
    TT_EACH_VECTOR(v, vectors) { parts[v] = tt_vector_of(0); }
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        const int32_t ky = at->y - oy * win->stride_height;
        const int32_t first = (oy * win->y_width + at->columns.first) * a->y_channels + block->start + c;
        const tt_mantissa *g = (const tt_mantissa *)a->gy + first;
        int32_t k = (ky * win->kernel_width + kx) * block->count + c;
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels, k -= w_step) {
            const int8_t *w = block->weights + k;
            TT_EACH_VECTOR(v, vectors) {
                parts[v] += tt_load_mantissas(g + v * TT_VECTOR_LANES) * tt_load_s8(w + v * TT_VECTOR_LANES);
            }
        }
    }
    TT_EACH_VECTOR(v, vectors) { tt_store(parts[v], sums + v * TT_VECTOR_LANES); }
    for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i++) {
        totals[i] = (int64_t)sums[i] * a->factors[block->start + c + i];
    }
}

TT_INNER_LOOP static void sum_vectors(const tt_depthwise_conv2d_input_gradient_args *a,
                                      const tt_depthwise_block *block, const tt_cover *at, int32_t c, int64_t *totals) {
    sum_window(a, block, at, c, totals, TT_VECTORS);
}

TT_INNER_LOOP static void sum_vector(const tt_depthwise_conv2d_input_gradient_args *a,
                                     const tt_depthwise_block *block, const tt_cover *at, int32_t c, int64_t *totals) {
    sum_window(a, block, at, c, totals, 1);
}

// The same for one channel.
static int64_t sum_channel(const tt_depthwise_conv2d_input_gradient_args *a, const tt_depthwise_block *block,
                           const tt_cover *at, int32_t c) {
    const tt_window *win = &a->window;
    const int32_t kx = at->x - at->columns.first * win->stride_width, w_step = win->stride_width * block->count;
    int32_t sum = 0;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        const int32_t ky = at->y - oy * win->stride_height;
        const int32_t first = (oy * win->y_width + at->columns.first) * a->y_channels + block->start + c;
        const tt_mantissa *g = (const tt_mantissa *)a->gy + first;
        int32_t k = (ky * win->kernel_width + kx) * block->count + c;
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels, k -= w_step) {
            sum += *g * block->weights[k];
        }
    }
    return (int64_t)sum * a->factors[block->start + c];
}

TT_INNER_LOOP static uint64_t store(const tt_rounding *rounding, const int64_t *sums, int32_t count, int32_t index,
                                    tt_mantissa *gx) {
    return tt_store_sums(rounding, sums, count, index, gx + index);
}

// gx of one pixel, whose first element is `index`, where input and output channels are the same; returns the largest
// magnitude of its sums.
static uint64_t pixel(const tt_depthwise_conv2d_input_gradient_args *a, const tt_cover *at,
                      const tt_rounding *rounding, int32_t index) {
    uint64_t largest = 0;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t done = 0; done < block->count;) {
            const tt_tile tile = tt_next_tile(done, block->count);
            int64_t totals[TT_LANES];
            if (tile.lanes == TT_LANES) {
                sum_vectors(a, block, at, tile.start, totals);
            } else if (TT_VECTOR_LANES > 1 && tile.lanes == TT_VECTOR_LANES) {
                sum_vector(a, block, at, tile.start, totals);
            } else {
                totals[0] = sum_channel(a, block, at, tile.start);
            }
            const uint64_t magnitude = store(rounding, totals, tile.lanes, index + block->start + tile.start, a->gx);
            if (magnitude > largest) { largest = magnitude; }
            done = tile.start + tile.lanes;
        }
    }
    return largest;
}

// The same where each input channel has several output channels, which may lie in different blocks.
static uint64_t pixel_of_many(const tt_depthwise_conv2d_input_gradient_args *a, const tt_cover *at,
                              const tt_rounding *rounding, int32_t index) {
    uint64_t largest = 0;
    int64_t total = 0;    // of one input channel
    int32_t position = 0; // of the next output channel among those of its input channel
    for (int32_t i = 0; i < a->block_count; i++) {
        for (int32_t c = 0; c < a->blocks[i].count; c++) {
            total += sum_channel(a, &a->blocks[i], at, c);
            if (++position < a->channel_multiplier) { continue; }
            const uint64_t magnitude = store(rounding, &total, 1, index++, a->gx);
            if (magnitude > largest) { largest = magnitude; }
            total = 0, position = 0;
        }
    }
    return largest;
}

// After the begin of a step; ends it.
static inline void tt_depthwise_input_gradients(const tt_depthwise_conv2d_input_gradient_args *a,
                                                const tt_rounding *rounding, int32_t sums_exponent) {
    uint64_t largest = 0;
    int32_t index = 0;
    for (int32_t py = 0; py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++, index += a->x_channels) {
            const tt_cover at = tt_cover_of(&a->window, py, px);
            const uint64_t magnitude =
                a->channel_multiplier == 1 ? pixel(a, &at, rounding, index) : pixel_of_many(a, &at, rounding, index);
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

static inline void tt_depthwise_conv2d_input_gradient(const tt_depthwise_conv2d_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    tt_depthwise_input_gradients(a, &rounding, sums_exponent);
}

#endif
