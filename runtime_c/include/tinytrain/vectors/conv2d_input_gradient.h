// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient: for each pixel of x, the scaled gradients of all outputs it took part in are gathered
// once; then neighbouring input channels share each load of them.
#ifndef TINYTRAIN_VECTORS_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_VECTORS_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/vectors/gradient.h"
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

// sums += g[co] * w[co, :] over `count` outputs, for `vectors` vectors of input channels.
TT_ALWAYS_INLINE static inline void add_outputs(const int16_t *g, const int8_t *w, int32_t step, int32_t count,
                                                int64_t *sums, int32_t vectors) {
    for (int32_t start = 0; start < count; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, count);
        tt_vector parts[TT_VECTORS];
        TT_EACH_VECTOR(v, vectors) { parts[v] = tt_vector_of(0); }
        for (int32_t co = start; co < end; co++, w += step) {
            const int32_t value = g[co];
            TT_EACH_VECTOR(v, vectors) { parts[v] += value * tt_load_s8(w + v * TT_VECTOR_LANES); }
        }
        tt_add_lanes(sums, parts, vectors);
    }
}

TT_INNER_LOOP static void add_vectors(const int16_t *g, const int8_t *w, int32_t step, int32_t count, int64_t *sums) {
    add_outputs(g, w, step, count, sums, TT_VECTORS);
}

TT_INNER_LOOP static void add_vector(const int16_t *g, const int8_t *w, int32_t step, int32_t count, int64_t *sums) {
    add_outputs(g, w, step, count, sums, 1);
}

// The same for one input channel.
static void add_channel(const int16_t *g, const int8_t *w, int32_t step, int32_t count, int64_t *sum) {
    for (int32_t start = 0; start < count; start += CHUNK) {
        const int32_t end = tt_min(start + CHUNK, count);
        int32_t part = 0;
        for (int32_t co = start; co < end; co++, w += step) { part += g[co] * *w; }
        *sum += part;
    }
}

// The same for fewer input channels than a vector has lanes: whole vectors as far as the weights, which end at `end`,
// allow. What the other lanes sum up means nothing.
static void add_short(const int16_t *g, const int8_t *w, int32_t step, int32_t count, const int8_t *end, int64_t *sums,
                      int32_t lanes) {
    const int32_t rest = (int32_t)(end - w) - TT_VECTOR_LANES;
    const int32_t whole = TT_VECTOR_LANES > 1 && rest >= 0 ? tt_min(count, rest / step + 1) : 0;
    if (whole > 0) { add_vector(g, w, step, whole, sums); }
    for (int32_t i = 0; i < lanes; i++) { add_channel(g + whole, w + whole * step + i, step, count - whole, &sums[i]); }
}

// Adds what a block knows about `lanes` input channels from ci on, over all gathered outputs.
static void add_block(const tt_conv2d_input_gradient_args *a, const tt_weight_block *block, const tt_cover *at,
                      int32_t ci, int32_t lanes, int64_t *sums) {
    const tt_window *win = &a->window;
    const int32_t step = win->kernel_height * win->kernel_width * block->ci_count;
    const int8_t *end = block->weights + block->co_count * step;
    const int16_t *g = a->scratch + block->co_start;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += a->y_channels) {
            const int32_t ky = at->y - oy * win->stride_height, kx = at->x - ox * win->stride_width;
            const int8_t *w = block->weights + (ky * win->kernel_width + kx) * block->ci_count + ci - block->ci_start;
            if (lanes == TT_LANES) {
                add_vectors(g, w, step, block->co_count, sums);
            } else if (TT_VECTOR_LANES > 1 && lanes == TT_VECTOR_LANES) {
                add_vector(g, w, step, block->co_count, sums);
            } else {
                add_short(g, w, step, block->co_count, end, sums, lanes);
            }
        }
    }
}

TT_INNER_LOOP static uint64_t store(const tt_rounding *rounding, const int64_t *sums, int32_t count, int32_t index,
                                    tt_mantissa *gx) {
    return tt_store_sums(rounding, sums, count, index, gx + index);
}

// The end of the run of input channels from ci on that lie in the same blocks.
static int32_t run_end(const tt_conv2d_input_gradient_args *a, int32_t ci) {
    int32_t end = a->x_channels;
    for (int32_t i = 0; i < a->block_count; i++) {
        const int32_t first = a->blocks[i].ci_start, last = first + a->blocks[i].ci_count;
        if (first > ci) { end = tt_min(end, first); }
        if (last > ci) { end = tt_min(end, last); }
    }
    return end;
}

// gx of one pixel, whose first element is `index`; returns the largest magnitude of its sums.
static uint64_t pixel(const tt_conv2d_input_gradient_args *a, const tt_cover *at, const tt_rounding *rounding,
                      int32_t index) {
    uint64_t largest = 0;
    gather(a, at);
    for (int32_t first = 0, last = 0; first < a->x_channels; first = last) {
        last = run_end(a, first);
        for (int32_t done = 0; done < last - first;) {
            tt_tile tile = tt_next_tile(done, last - first);
            const int32_t ci = first + tile.start;
            if (tile.lanes < TT_VECTOR_LANES) { tile.lanes = last - first; }
            int64_t sums[TT_LANES] = {0};
            for (int32_t i = 0; i < a->block_count; i++) {
                const tt_weight_block *block = &a->blocks[i];
                if (ci >= block->ci_start && ci < block->ci_start + block->ci_count) {
                    add_block(a, block, at, ci, tile.lanes, sums);
                }
            }
            const uint64_t magnitude = store(rounding, sums, tile.lanes, index + ci, a->gx);
            if (magnitude > largest) { largest = magnitude; }
            done = tile.start + tile.lanes;
        }
    }
    return largest;
}

static inline void tt_conv2d_input_gradient(const tt_conv2d_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    int32_t index = 0;
    for (int32_t py = 0; py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++, index += a->x_channels) {
            const tt_cover at = tt_cover_of(&a->window, py, px);
            const uint64_t magnitude = pixel(a, &at, &rounding, index);
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

#endif
