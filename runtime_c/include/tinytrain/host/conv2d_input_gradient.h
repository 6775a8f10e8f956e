// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient for hosts: the weights of neighbouring input channels are laid side by side on the stack
// once, for all pixels, and the scaled gradients that reach a pixel beside each other; then it is a product of
// matrices. Very long sums go the way of tinytrain/vectors/.
#ifndef TINYTRAIN_HOST_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_HOST_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/vectors/conv2d_input_gradient.h"
#include "tinytrain/vectors/mantissas.h"
#include "tinytrain/vectors/pairs.h"

enum {
    TT_WEIGHTS = 24576,   // int16 at a time
    TT_TERMS = 8192,      // of sums: a product each; int16 at a time
    TT_ROWS = 4,          // pixels at a time
    TT_SURE_PAIRS = 255,  // so many pairs of products fit 31 bits and a sign
};

// A tile of input channels. A term is a kernel position and an output channel; an odd last one has a weight and a
// gradient of 0 beside it.
typedef struct tt_gradient_tile {
    const tt_conv2d_input_gradient_args *args;
    int32_t terms, step;  // of a pixel; int16 from one to the next
    int32_t vectors;      // of input channels
    int32_t start, count;
    tt_rounding rounding;
    tt_magnitudes magnitudes;
    int16_t weights[TT_WEIGHTS];        // [pairs of terms, vectors, TT_PAIRS]
    int16_t gradients[TT_TERMS];        // [pixels, step]
} tt_gradient_tile;

// What a block has of the vector of lanes from `lane` on, at one kernel position.
static void tt_pack_position(tt_gradient_tile *t, const tt_weight_block *block, int32_t position, int32_t lane) {
    const tt_conv2d_input_gradient_args *a = t->args;
    const int32_t step = a->window.kernel_height * a->window.kernel_width * block->ci_count;
    const int32_t from = t->start + lane, end = tt_min(from + TT_VECTOR_LANES, t->start + t->count);
    const int32_t first = tt_max(from, block->ci_start), last = tt_min(end, block->ci_start + block->ci_count);
    if (last <= first) { return; }
    const int8_t *w = block->weights + position * block->ci_count + first - block->ci_start;
    int32_t term = position * a->y_channels + block->co_start;
    for (int32_t left = block->co_count; left > 0;) {
        const int32_t pair = term / 2 * t->vectors + lane / TT_VECTOR_LANES;
        int16_t *to = t->weights + pair * TT_PAIRS + 2 * (first - from);
        if (term % 2 == 0 && left > 1) {
            if (last - first == TT_VECTOR_LANES) {
                tt_store_pairs(tt_zip_s8(w, w + step), to);
            } else {
                tt_store_some_pairs(tt_zip_some_s8(w, w + step, last - first), to, last - first);
            }
            w += 2 * step, term += 2, left -= 2;
        } else {
            for (int32_t i = 0; i < last - first; i++) { to[2 * i + term % 2] = w[i]; }
            w += step, term++, left--;
        }
    }
}

static void tt_pack_weights(tt_gradient_tile *t) {
    const tt_window *win = &t->args->window;
    const int32_t lanes = t->vectors * TT_VECTOR_LANES, size = t->step / 2 * t->vectors * TT_PAIRS;
    if (t->count < lanes || t->terms % 2) { memset(t->weights, 0, sizeof(int16_t) * (size_t)size); }
    for (int32_t i = 0; i < t->args->block_count; i++) {
        for (int32_t position = 0; position < win->kernel_height * win->kernel_width; position++) {
            for (int32_t lane = 0; lane < lanes; lane += TT_VECTOR_LANES) {
                tt_pack_position(t, &t->args->blocks[i], position, lane);
            }
        }
    }
}

// The scaled gradients of one output.
static void tt_scale_gradients(const tt_conv2d_input_gradient_args *a, int32_t output, int16_t *to) {
    const tt_mantissa *gy = (const tt_mantissa *)a->gy + output * a->y_channels;
    const int32_t *factors = a->factors;
    for (int32_t co = 0; co < a->y_channels; co++) { to[co] = (int16_t)tt_scaled_gradient(gy[co], factors[co]); }
}

// All terms of a pixel: of the outputs that see it, 0 for kernel positions at which none does.
static void tt_gather_terms(const tt_gradient_tile *t, int32_t pixel, int16_t *to) {
    const tt_conv2d_input_gradient_args *a = t->args;
    const tt_window *win = &a->window;
    const tt_cover at = tt_cover_of(win, pixel / win->x_width, pixel % win->x_width);
    const int32_t outputs = tt_max(0, at.rows.last - at.rows.first) * tt_max(0, at.columns.last - at.columns.first);
    if (outputs < win->kernel_height * win->kernel_width || t->terms < t->step) {
        memset(to, 0, sizeof(int16_t) * (size_t)t->step);
    }
    for (int32_t oy = at.rows.first; oy < at.rows.last; oy++) {
        for (int32_t ox = at.columns.first; ox < at.columns.last; ox++) {
            const int32_t ky = at.y - oy * win->stride_height, kx = at.x - ox * win->stride_width;
            tt_scale_gradients(a, oy * win->y_width + ox, to + (ky * win->kernel_width + kx) * a->y_channels);
        }
    }
}

TT_ALWAYS_INLINE static inline void tt_clear_sums(tt_vector *sums, int32_t rows, int32_t vectors) {
    TT_EACH_VECTOR(r, rows) {
        TT_EACH_VECTOR(v, vectors) { sums[r * vectors + v] = tt_vector_of(0); }
    }
}

// Pixels whose sums fit 32 bits.
TT_ALWAYS_INLINE static inline void tt_store_sure(tt_gradient_tile *t, const int16_t *g, int32_t index, int32_t rows,
                                                  int32_t vectors) {
    tt_vector sums[TT_ROWS * TT_VECTORS];
    tt_clear_sums(sums, rows, vectors);
    tt_multiply(g, t->step, t->weights, t->step / 2, rows, vectors, sums);
    int32_t lanes[TT_ROWS * TT_LANES];  // so that all sums may stay in registers till here
    TT_EACH_VECTOR(r, rows) {
        TT_EACH_VECTOR(v, vectors) { tt_store(sums[r * vectors + v], lanes + r * TT_LANES + v * TT_VECTOR_LANES); }
    }
    for (int32_t r = 0; r < rows; r++, index += t->args->x_channels) {
        for (int32_t first = 0; first < t->count; first += TT_VECTOR_LANES) {
            const tt_vector values = tt_load_s32(lanes + r * TT_LANES + first);
            tt_store_mantissa_vector(&t->rounding, values, index + first, t->args->gx, t->count - first,
                                     &t->magnitudes);
        }
    }
}

// The others.
TT_ALWAYS_INLINE static inline void tt_store_wide(tt_gradient_tile *t, const int16_t *g, int32_t index, int32_t rows,
                                                  int32_t vectors) {
    int64_t totals[TT_ROWS][TT_LANES] = {{0}};
    for (int32_t done = 0; done < t->step / 2; done += TT_SURE_PAIRS) {
        tt_vector sums[TT_ROWS * TT_VECTORS];
        tt_clear_sums(sums, rows, vectors);
        tt_multiply(g + 2 * done, t->step, t->weights + done * vectors * TT_PAIRS,
                    tt_min(TT_SURE_PAIRS, t->step / 2 - done), rows, vectors, sums);
        TT_EACH_VECTOR(r, rows) { tt_add_lanes(totals[r], sums + r * vectors, vectors); }
    }
    for (int32_t r = 0; r < rows; r++) {
        const int32_t to = index + r * t->args->x_channels;
        tt_see_magnitude(&t->magnitudes, tt_store_sums(&t->rounding, totals[r], t->count, to,
                                                       (tt_mantissa *)t->args->gx + to));
    }
}

TT_ALWAYS_INLINE static inline void tt_store_pixels(tt_gradient_tile *t, int32_t index, int32_t count,
                                                    int32_t vectors) {
    const int16_t *g = t->gradients;
    const int wide = t->step / 2 > TT_SURE_PAIRS;
    for (int32_t done = 0, rows; done < count; done += rows, g += rows * t->step) {
        const int32_t to = index + done * t->args->x_channels;
        rows = count - done >= TT_ROWS ? TT_ROWS : 1;
        if (wide && rows == 1) {
            tt_store_wide(t, g, to, 1, vectors);
        } else if (wide) {
            tt_store_wide(t, g, to, TT_ROWS, vectors);
        } else if (rows == 1) {
            tt_store_sure(t, g, to, 1, vectors);
        } else {
            tt_store_sure(t, g, to, TT_ROWS, vectors);
        }
    }
}

TT_INNER_LOOP static void tt_store_gradient_tile(tt_gradient_tile *t, int32_t index, int32_t count) {
    switch (t->vectors) {
    case 1: tt_store_pixels(t, index, count, 1); break;
    case 2: tt_store_pixels(t, index, count, 2); break;
    case 3: tt_store_pixels(t, index, count, 3); break;
    default: tt_store_pixels(t, index, count, TT_VECTORS); break;
    }
}

static inline void tt_packed_input_gradient(const tt_conv2d_input_gradient_args *a, int32_t terms) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const int32_t pixels = a->window.x_height * a->window.x_width;
    tt_gradient_tile t;
    t.args = a, t.terms = terms, t.step = terms + terms % 2;
    t.rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    t.magnitudes = tt_no_magnitudes();
    const int32_t room = TT_TERMS / t.step;
    const int32_t most = tt_min(TT_VECTORS, TT_WEIGHTS / t.step / TT_VECTOR_LANES) * TT_VECTOR_LANES;
    for (t.start = 0; t.start < a->x_channels; t.start += t.count) {
        const int32_t left = a->x_channels - t.start, tiles = (left + most - 1) / most;
        t.vectors = ((left + tiles - 1) / tiles + TT_VECTOR_LANES - 1) / TT_VECTOR_LANES;
        t.count = tt_min(left, t.vectors * TT_VECTOR_LANES);
        tt_pack_weights(&t);
        for (int32_t first = 0, count; first < pixels; first += count) {
            count = tt_min(room, pixels - first);
            for (int32_t i = 0; i < count; i++) { tt_gather_terms(&t, first + i, t.gradients + i * t.step); }
            tt_store_gradient_tile(&t, first * a->x_channels + t.start, count);
        }
    }
    tt_exponent_end(a->gx_exponent, tt_largest_magnitude(&t.magnitudes), sums_exponent);
}

static inline void tt_host_input_gradient(const tt_conv2d_input_gradient_args *a) {
    const int32_t terms = a->window.kernel_height * a->window.kernel_width * a->y_channels;
    if (terms < TT_TERMS && terms < TT_WEIGHTS / TT_VECTOR_LANES) {
        tt_packed_input_gradient(a, terms);
    } else {
        tt_conv2d_input_gradient(a);
    }
}

#endif
