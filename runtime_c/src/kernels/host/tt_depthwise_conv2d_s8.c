// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8: where each output has its own input channel, neighbouring channels share one walk over the
// window.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/vectors/output.h"
#include "tinytrain/window.h"

typedef struct work {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
} work;

// Neighbouring channels from c on of a block, each reading the input channel of its own number.
TT_ALWAYS_INLINE static inline void add_window(const work *k, const tt_depthwise_block *block, const tt_patch *at,
                                               int32_t c, int8_t *y, int32_t vectors) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t zero_point = a->x_zero_point, x_step = a->x_channels, w_step = block->count;
    tt_vector sums[TT_VECTORS];
    TT_EACH_VECTOR(v, vectors) { sums[v] = tt_vector_of(0); }
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + first) * x_step + block->start + c;
        const int8_t *w = block->weights + (ky * win->kernel_width + first) * w_step + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += x_step, w += w_step) {
            TT_EACH_VECTOR(v, vectors) {
                const int32_t i = v * TT_VECTOR_LANES;
                sums[v] += (tt_load_s8(x + i) - zero_point) * tt_load_s8(w + i);
            }
        }
    }
    tt_store_outputs(&k->output, sums, block->start + c, y, vectors);
}

TT_INNER_LOOP static void store_vectors(const work *k, const tt_depthwise_block *block, const tt_patch *at, int32_t c,
                                        int8_t *y) {
    add_window(k, block, at, c, y, TT_VECTORS);
}

TT_INNER_LOOP static void store_vector(const work *k, const tt_depthwise_block *block, const tt_patch *at, int32_t c,
                                       int8_t *y) {
    add_window(k, block, at, c, y, 1);
}

// Channel c of a block.
static void store_channel(const work *k, const tt_depthwise_block *block, const tt_patch *at, int32_t c, int8_t *y) {
    const tt_depthwise_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t co = block->start + c, ci = co / a->channel_multiplier;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + first) * a->x_channels + ci;
        const int8_t *w = block->weights + (ky * win->kernel_width + first) * block->count + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->x_channels, w += block->count) {
            sum += (*x - a->x_zero_point) * *w;
        }
    }
    *y = tt_output_of(&k->output, sum, co);
}

static void pixel(const work *k, const tt_patch *at, int8_t *y) {
    for (int32_t i = 0; i < k->args->block_count; i++) {
        const tt_depthwise_block *block = &k->args->blocks[i];
        for (int32_t done = 0; done < block->count;) {
            const tt_tile one = {done, 1, 0};
            const tt_tile tile = k->args->channel_multiplier == 1 ? tt_next_tile(done, block->count) : one;
            int8_t *to = y + block->start + tile.start;
            if (tile.lanes == TT_LANES) {
                store_vectors(k, block, at, tile.start, to);
            } else if (TT_VECTOR_LANES > 1 && tile.lanes == TT_VECTOR_LANES) {
                store_vector(k, block, at, tile.start, to);
            } else {
                store_channel(k, block, at, tile.start, to);
            }
            done = tile.start + tile.lanes;
        }
    }
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const work k = {a, output};
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++, y += a->y_channels) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            pixel(&k, &at, y);
        }
    }
}
