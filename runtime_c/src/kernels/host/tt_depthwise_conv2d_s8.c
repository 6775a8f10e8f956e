// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8 for hosts: neighbouring channels in vectors, the cells of a window in pairs. x is taken as it
// is: a channel's sums start with its zero point times the sum of the weights, and padding is the zero point. Channels
// that share an input channel, and very large windows, go one by one.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/vectors/output.h"
#include "tinytrain/vectors/pairs.h"
#include "tinytrain/window.h"

enum { MOST_PAIRS = 32 };  // of a window's cells

// Neighbouring channels of a block.
typedef struct tile {
    const tt_depthwise_conv2d_s8_args *args;
    int32_t vectors, rest;                                   // lanes of the last vector, if they are not all
    int32_t pairs;
    int16_t weights[MOST_PAIRS * TT_VECTORS * TT_PAIRS];     // [pairs, vectors, TT_PAIRS]
    int32_t start[TT_LANES];
    int32_t offsets[2 * MOST_PAIRS];                         // of a window's cells in x
    int8_t padding[TT_LANES];
    tt_outputs outputs;
} tile;

static tt_pairs zip(const int8_t *first, const int8_t *second, int32_t rest) {
    return rest ? tt_zip_some_s8(first, second, rest) : tt_zip_s8(first, second);
}

static void pack(tile *t, const tt_depthwise_block *block, int32_t c) {
    static const int8_t none[TT_VECTOR_LANES] = {0};
    const int32_t cells = t->args->window.kernel_height * t->args->window.kernel_width;
    for (int32_t p = 0; p < t->pairs; p++) {
        const int8_t *first = block->weights + 2 * p * block->count + c;
        for (int32_t v = 0; v < t->vectors; v++, first += TT_VECTOR_LANES) {
            const int8_t *second = 2 * p + 1 < cells ? first + block->count : none;
            const int32_t rest = v == t->vectors - 1 ? t->rest : 0;
            tt_store_pairs(zip(first, second, rest), t->weights + (p * t->vectors + v) * TT_PAIRS);
        }
    }
    memset(t->padding, t->args->x_zero_point, sizeof t->padding);
    for (int32_t i = 0; i < TT_LANES; i++) { t->start[i] = 0; }
    for (int32_t k = 0; k < cells; k++) {
        for (int32_t i = 0; i < t->outputs.count; i++) { t->start[i] += block->weights[k * block->count + c + i]; }
    }
    for (int32_t i = 0; i < TT_LANES; i++) { t->start[i] *= -t->args->x_zero_point; }
}

// Where the cells of an output's window begin, an odd last one with padding beside it.
static inline void find_cells(const tile *t, int32_t oy, int32_t ox, const int8_t **cells) {
    const tt_depthwise_conv2d_s8_args *a = t->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int32_t count = win->kernel_height * win->kernel_width;
    const int32_t first = (at.y0 * win->x_width + at.x0) * a->x_channels + t->outputs.channel;
    if (tt_cells(&at) == count && at.rows.first < at.rows.last) {
        for (int32_t k = 0; k < count; k++) { cells[k] = a->x + (first + t->offsets[k]); }
    } else {
        for (int32_t k = 0; k < count; k++) { cells[k] = t->padding; }
        for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
            for (int32_t kx = at.columns.first; kx < at.columns.last; kx++) {
                const int32_t k = ky * win->kernel_width + kx;
                cells[k] = a->x + (first + t->offsets[k]);
            }
        }
    }
    if (count % 2) { cells[count] = t->padding; }
}

TT_ALWAYS_INLINE static inline void store_channels(const tile *t, int32_t vectors, int32_t rest) {
    const tt_window *win = &t->args->window;
    int8_t *y = t->args->y + t->outputs.channel;
    for (int32_t oy = 0; oy < win->y_height; oy++) {
        for (int32_t ox = 0; ox < win->y_width; ox++, y += t->args->y_channels) {
            const int8_t *cells[2 * MOST_PAIRS];
            find_cells(t, oy, ox, cells);
            tt_vector sums[TT_VECTORS];
            TT_EACH_VECTOR(v, vectors) { sums[v] = tt_load_s32(t->start + v * TT_VECTOR_LANES); }
            const int16_t *w = t->weights;
            for (int32_t p = 0; p < t->pairs; p++, w += vectors * TT_PAIRS) {
                TT_EACH_VECTOR(v, vectors) {
                    const int32_t i = v * TT_VECTOR_LANES;
                    const tt_pairs x = zip(cells[2 * p] + i, cells[2 * p + 1] + i, v == vectors - 1 ? rest : 0);
                    sums[v] = tt_add_pairs(sums[v], tt_load_pairs(w + v * TT_PAIRS), x);
                }
            }
            tt_store_outputs(&t->outputs, sums, y, vectors);
        }
    }
}

TT_INNER_LOOP static void store_whole(const tile *t) {
    switch (t->vectors) {
    case 1: store_channels(t, 1, 0); break;
    case 2: store_channels(t, 2, 0); break;
    case 3: store_channels(t, 3, 0); break;
    default: store_channels(t, TT_VECTORS, 0); break;
    }
}

TT_INNER_LOOP static void store_rest(const tile *t) { store_channels(t, 1, t->rest); }

static void store_block(const tt_depthwise_conv2d_s8_args *a, const tt_output *output,
                        const tt_depthwise_block *block) {
    tile t;
    const int32_t cells = a->window.kernel_height * a->window.kernel_width;
    t.args = a, t.pairs = (cells + 1) / 2;
    for (int32_t k = 0; k < cells; k++) {
        const int32_t ky = k / a->window.kernel_width, kx = k % a->window.kernel_width;
        t.offsets[k] = (ky * a->window.x_width + kx) * a->x_channels;
    }
    for (int32_t c = 0; c < block->count; c += t.outputs.count) {
        const int32_t left = block->count - c;
        t.vectors = tt_clamp(left / TT_VECTOR_LANES, 1, TT_VECTORS);
        t.rest = left < TT_VECTOR_LANES ? left : 0;
        const int32_t count = t.rest ? t.rest : t.vectors * TT_VECTOR_LANES;
        tt_prepare(&t.outputs, output, block->start + c, count, (int64_t)cells * 255 * 128);
        pack(&t, block, c);
        if (t.rest) {
            store_rest(&t);
        } else {
            store_whole(&t);
        }
    }
}

// Channel c of a block, output by output.
static void store_channel(const tt_depthwise_conv2d_s8_args *a, const tt_output *output,
                          const tt_depthwise_block *block, int32_t c) {
    const tt_window *win = &a->window;
    const int32_t co = block->start + c, ci = co / a->channel_multiplier;
    for (int32_t pixel = 0; pixel < win->y_height * win->y_width; pixel++) {
        const tt_patch at = tt_patch_of(win, pixel / win->y_width, pixel % win->y_width);
        int32_t sum = 0;
        for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
            for (int32_t kx = at.columns.first; kx < at.columns.last; kx++) {
                const int32_t x = ((at.y0 + ky) * win->x_width + at.x0 + kx) * a->x_channels + ci;
                sum += (a->x[x] - a->x_zero_point) * block->weights[(ky * win->kernel_width + kx) * block->count + c];
            }
        }
        a->y[pixel * a->y_channels + co] = tt_output_of(output, sum, co);
    }
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const int32_t cells = a->window.kernel_height * a->window.kernel_width;
    const int together = a->channel_multiplier == 1 && cells <= 2 * MOST_PAIRS;
    for (int32_t i = 0; i < a->block_count; i++) {
        if (together) { store_block(a, &output, &a->blocks[i]); }
        for (int32_t c = 0; c < a->blocks[i].count && !together; c++) { store_channel(a, &output, &a->blocks[i], c); }
    }
}
