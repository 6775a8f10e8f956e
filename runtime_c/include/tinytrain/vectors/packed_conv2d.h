// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8 on a host: the weights of neighbouring output channels are laid side by side on the stack once, for all
// pixels. For a Cortex-M, whose stack is small, there is nothing here.
#ifndef TINYTRAIN_VECTORS_PACKED_CONV2D_H
#define TINYTRAIN_VECTORS_PACKED_CONV2D_H

#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/vectors/output.h"
#include "tinytrain/window.h"

#if TT_VECTOR_LANES > 1

enum {
    TT_PACKED_WEIGHTS = 24576,  // at a time
    TT_PACKED_INPUTS = TT_PACKED_WEIGHTS / TT_VECTOR_LANES - 1,  // of one output
    TT_PACKED_PIXELS = 4,  // for fewer, packing costs more than it saves
};

// A tile of output channels of a layer. An input of an output is a kernel position and an input channel; an odd last
// input has a weight and a value of 0 beside it.
typedef struct tt_packed {
    int16_t weights[TT_PACKED_WEIGHTS];  // [pairs of inputs, vectors of outputs, 2 * lanes]
    int16_t x[TT_PACKED_INPUTS + 1];     // less the zero point, of one pixel; padding is 0
    int32_t inputs, start, lanes;
} tt_packed;

// Where the weights of an input lie, for the vector of lanes from `lane` on.
static inline int16_t *tt_packed_at(tt_packed *packed, int32_t lane, int32_t input) {
    return packed->weights + input / 2 * 2 * packed->lanes + lane / TT_VECTOR_LANES * 2 * TT_VECTOR_LANES;
}

// One input of `lanes` lanes of one vector; their weights lie `step` bytes apart.
static void tt_pack_input(tt_packed *packed, const int8_t *w, int32_t step, int32_t lane, int32_t lanes,
                          int32_t input) {
    int16_t *to = tt_packed_at(packed, lane, input);
    for (int32_t i = 0; i < lanes; i++) {
        to[tt_place_in_pair((lane + i) % TT_VECTOR_LANES, input % 2)] = w[i * step];
    }
}

// Inputs input..end - 1 of a vector of lanes.
static void tt_pack_run(tt_packed *packed, const int8_t *w, int32_t step, int32_t lane, int32_t input, int32_t end) {
    if (input % 2) { tt_pack_input(packed, w++, step, lane, TT_VECTOR_LANES, input++); }
    int16_t *to = tt_packed_at(packed, lane, input);
    for (; input + 2 <= end; input += 2, w += 2, to += 2 * packed->lanes) { tt_pack_pairs(w, step, to); }
    if (input < end) { tt_pack_input(packed, w, step, lane, TT_VECTOR_LANES, input); }
}

// What a block has of the vector of lanes from `lane` on.
static void tt_pack_block(tt_packed *packed, const tt_conv2d_s8_args *a, const tt_weight_block *block, int32_t lane) {
    const int32_t positions = a->window.kernel_height * a->window.kernel_width, step = positions * block->ci_count;
    const int32_t start = block->co_start - packed->start;  // of the block, in lanes of the tile
    const int32_t first = tt_max(lane, start), last = tt_min(lane + TT_VECTOR_LANES, start + block->co_count);
    const int8_t *w = block->weights + (first - start) * step;
    const int whole = block->ci_count == a->x_channels;  // all positions are one run
    const int32_t runs = whole ? 1 : positions, run = whole ? step : block->ci_count;
    for (int32_t k = 0; k < runs; k++, w += run) {
        const int32_t input = k * a->x_channels + block->ci_start;
        if (last - first == TT_VECTOR_LANES) {
            tt_pack_run(packed, w, step, lane, input, input + run);
            continue;
        }
        for (int32_t i = 0; last > first && i < run; i++) {
            tt_pack_input(packed, w + i, step, first, last - first, input + i);
        }
    }
}

static void tt_pack(tt_packed *packed, const tt_conv2d_s8_args *a) {
    if (packed->inputs % 2) {
        memset(tt_packed_at(packed, 0, packed->inputs), 0, sizeof(int16_t) * 2 * (size_t)packed->lanes);
        packed->x[packed->inputs] = 0;
    }
    for (int32_t lane = 0; lane < packed->lanes; lane += TT_VECTOR_LANES) {
        for (int32_t i = 0; i < a->block_count; i++) { tt_pack_block(packed, a, &a->blocks[i], lane); }
    }
}

// packed->x = the window of one output.
static void tt_gather_window(tt_packed *packed, const tt_conv2d_s8_args *a, const tt_patch *at) {
    const tt_window *win = &a->window;
    const int32_t width = win->kernel_width * a->x_channels, zero_point = a->x_zero_point;
    const int32_t start = at->columns.first * a->x_channels;
    const int32_t count = (at->columns.last - at->columns.first) * a->x_channels;
    const int whole = count == width && at->rows.last - at->rows.first == win->kernel_height;
    if (!whole) { memset(packed->x, 0, sizeof(int16_t) * (size_t)packed->inputs); }
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + at->columns.first) * a->x_channels;
        int16_t *to = packed->x + ky * width + start;
        int32_t i = 0;
        for (; i + 16 <= count; i += 16) {
            for (int32_t j = i; j < i + 16; j++) { to[j] = (int16_t)(x[j] - zero_point); }
        }
        for (; i < count; i++) { to[i] = (int16_t)(x[i] - zero_point); }
    }
}

TT_ALWAYS_INLINE static inline void tt_store_tile(const tt_packed *packed, const tt_output *output, int8_t *y,
                                                  int32_t vectors) {
    const int16_t *w = packed->weights;
    tt_vector sums[TT_VECTORS];
    TT_EACH_VECTOR(v, vectors) { sums[v] = tt_vector_of(0); }
    for (int32_t input = 0; input < packed->inputs; input += 2) {
        TT_EACH_VECTOR(v, vectors) { sums[v] = tt_add_pairs(sums[v], w + v * 2 * TT_VECTOR_LANES, packed->x + input); }
        w += vectors * 2 * TT_VECTOR_LANES;
    }
    tt_store_outputs(output, sums, packed->start, y + packed->start, vectors);
}

static void tt_store_pixel(const tt_packed *packed, const tt_output *output, int8_t *y) {
    switch (packed->lanes / TT_VECTOR_LANES) {
    case 1: tt_store_tile(packed, output, y, 1); break;
    case 2: tt_store_tile(packed, output, y, 2); break;
    case 3: tt_store_tile(packed, output, y, 3); break;
    default: tt_store_tile(packed, output, y, TT_VECTORS); break;
    }
}

static int tt_worth_packing(const tt_conv2d_s8_args *a) {
    return a->window.y_height * a->window.y_width >= TT_PACKED_PIXELS && a->y_channels >= TT_VECTOR_LANES &&
           a->window.kernel_height * a->window.kernel_width * a->x_channels <= TT_PACKED_INPUTS;
}

static void tt_packed_conv2d(const tt_conv2d_s8_args *a, const tt_output *output) {
    tt_packed packed;
    packed.inputs = a->window.kernel_height * a->window.kernel_width * a->x_channels;
    for (int32_t done = 0; done < a->y_channels; done = packed.start + packed.lanes) {
        const int32_t vectors = tt_min((a->y_channels - done) / TT_VECTOR_LANES,
                                       TT_PACKED_WEIGHTS / (packed.inputs + 1) / TT_VECTOR_LANES);
        packed.lanes = tt_clamp(vectors, 1, TT_VECTORS) * TT_VECTOR_LANES;
        packed.start = tt_min(done, a->y_channels - packed.lanes);
        tt_pack(&packed, a);
        int8_t *y = a->y;
        for (int32_t oy = 0; oy < a->window.y_height; oy++) {
            for (int32_t ox = 0; ox < a->window.y_width; ox++, y += a->y_channels) {
                const tt_patch at = tt_patch_of(&a->window, oy, ox);
                tt_gather_window(&packed, a, &at);
                tt_store_pixel(&packed, output, y);
            }
        }
    }
}

#endif

#endif
