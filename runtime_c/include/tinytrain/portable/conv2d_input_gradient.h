// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient for a scalar core: for each pixel of x, the scaled gradients of all outputs it took part
// in are gathered once; then four neighbouring input channels share each load of them. Where a window is one pixel, two
// pixels share each load of a weight, their gradients side by side in scratch.
#ifndef TINYTRAIN_PORTABLE_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_PORTABLE_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/portable.h"
#include "tinytrain/window.h"

// LANES input channels at a time. So many products of an int16 and an int8 fit 31 bits and a sign.
enum { LANES = 4, CHUNK = 511 };

// What is summed for LANES input channels of two pixels, [2, LANES]; total: as soon as there are more than CHUNK terms.
typedef struct tile {
    int32_t ci, lanes;
    int32_t sums[2 * LANES];
    int64_t totals[2 * LANES];
} tile;

typedef struct work {
    const tt_conv2d_input_gradient_args *args;
    tt_rounding rounding;
    int32_t pixels;    // at a time, 1 or 2
    int wide;          // sums may pass 32 bits
    uint32_t largest;  // magnitude of all sums
    uint64_t widest;   // of those that are wide
} work;

// One pixel's share of scratch: gy * factor of the outputs that see it, [outputs, y_channels, pixels].
static void gather(const work *k, const tt_cover *at, int16_t *out) {
    const tt_conv2d_input_gradient_args *a = k->args;
    const int32_t step = k->pixels;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++) {
            const tt_mantissa *gy = (const tt_mantissa *)a->gy + (oy * a->window.y_width + ox) * a->y_channels;
            const int32_t *factors = a->factors, *end = factors + a->y_channels;
            for (; factors < end; out += step) { *out = (int16_t)tt_scaled_gradient(*gy++, *factors++); }
        }
    }
}

// sums += g[co, pixel] * w[co, lane] over `count` outputs of two pixels.
TT_ALWAYS_INLINE static inline void add_products(const int16_t *g, const int8_t *w, int32_t step, int32_t count,
                                                 int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    int32_t s4 = sums[4], s5 = sums[5], s6 = sums[6], s7 = sums[7];
    for (const int16_t *end = g + 2 * count; g < end; g += 2, w += step) {
        const int32_t a = g[0], b = g[1];
        s0 += a * w[0], s4 += b * w[0];
        s1 += a * w[1], s5 += b * w[1];
        s2 += a * w[2], s6 += b * w[2];
        s3 += a * w[3], s7 += b * w[3];
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

TT_INNER_LOOP static void add_two(const int16_t *g, const int8_t *w, int32_t step, int32_t count, int32_t *sums) {
    add_products(g, w, step, count, sums);
}

// The same of one pixel.
TT_INNER_LOOP static void add_one(const int16_t *g, const int8_t *w, int32_t step, int32_t count, int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (const int16_t *end = g + count; g < end; g++, w += step) {
        s0 += *g * w[0], s1 += *g * w[1], s2 += *g * w[2], s3 += *g * w[3];
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// The same of fewer channels.
static void add_few(const work *k, const int16_t *g, const int8_t *w, int32_t step, int32_t count, tile *to) {
    for (int32_t co = 0; co < count; co++, w += step) {
        for (int32_t pixel = 0; pixel < k->pixels; pixel++, g++) {
            for (int32_t i = 0; i < to->lanes; i++) { to->sums[pixel * LANES + i] += *g * w[i]; }
        }
    }
}

static void add_outputs(const work *k, const int16_t *g, const int8_t *w, int32_t step, int32_t count, tile *to) {
    for (int32_t done = 0; done < count; done += CHUNK, g += CHUNK * k->pixels, w += CHUNK * step) {
        const int32_t part = tt_min(CHUNK, count - done);
        if (to->lanes < LANES) {
            add_few(k, g, w, step, part, to);
        } else if (k->pixels == 2) {
            add_two(g, w, step, part, to->sums);
        } else {
            add_one(g, w, step, part, to->sums);
        }
        for (int32_t i = 0; k->wide && i < 2 * LANES; i++) { to->totals[i] += to->sums[i], to->sums[i] = 0; }
    }
}

// Adds what a block knows about a tile, over all gathered outputs.
static void add_block(const work *k, const tt_weight_block *block, const tt_cover *at, tile *to) {
    const tt_window *win = &k->args->window;
    const int32_t step = win->kernel_height * win->kernel_width * block->ci_count;
    const int16_t *g = k->args->scratch + block->co_start * k->pixels;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, g += k->args->y_channels * k->pixels) {
            const int32_t ky = at->y - oy * win->stride_height, kx = at->x - ox * win->stride_width;
            const int32_t first = (ky * win->kernel_width + kx) * block->ci_count + to->ci - block->ci_start;
            add_outputs(k, g, block->weights + first, step, block->co_count, to);
        }
    }
}

// Where the rounding is a shift by 1 to 31 bits.
static inline tt_mantissa shifted(const tt_rounding *rounding, int32_t value, int32_t index) {
#if TT_GRADIENT_BITS == 8
    return tt_to_mantissa32(rounding, value, index);
#else
    (void)index;
    return tt_mantissa_of(value, rounding->right);
#endif
}

static void store(work *k, const tile *from, int32_t index, int32_t pixel) {
    const int32_t first = index + from->ci;
    tt_mantissa *gx = (tt_mantissa *)k->args->gx + first;
    const int32_t *sums = from->sums + pixel * LANES;
    if (k->wide) {
        const uint64_t widest = tt_store_sums(&k->rounding, from->totals + pixel * LANES, from->lanes, first, gx);
        if (widest > k->widest) { k->widest = widest; }
        return;
    }
    for (int32_t i = 0; i < from->lanes; i++) {
        tt_see(&k->largest, sums[i]);
        gx[i] = tt_to_mantissa32(&k->rounding, sums[i], first + i);
    }
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

// gx of one pixel, or of two whose gradients are gathered; `index` is the first element of the first one.
TT_INNER_LOOP static void store_pixels(work *k, const tt_cover *at, int32_t index) {
    const tt_conv2d_input_gradient_args *a = k->args;
    for (int32_t ci = 0, first = 0, last = 0; ci < a->x_channels;) {
        if (ci == last) { first = ci, last = run_end(a, ci); }
        if (last - ci < LANES) { ci = tt_max(first, last - LANES); }  // some again: whole tiles are faster
        tile to = {ci, tt_min(LANES, last - ci), {0}, {0}};
        for (int32_t i = 0; i < a->block_count; i++) {
            const tt_weight_block *block = &a->blocks[i];
            if (ci >= block->ci_start && ci < block->ci_start + block->ci_count) { add_block(k, block, at, &to); }
        }
        for (int32_t pixel = 0; pixel < k->pixels; pixel++) { store(k, &to, index + pixel * a->x_channels, pixel); }
        ci += to.lanes;
    }
}

// Input channels of a block that has all outputs, of two pixels, where sums fit 32 bits and the rounding is a shift.
TT_INNER_LOOP static void store_block(work *k, const tt_weight_block *block, int32_t index) {
    const int32_t count = block->ci_count, next = k->args->x_channels;
    const tt_rounding rounding = k->rounding;
    tt_mantissa *gx = (tt_mantissa *)k->args->gx + index, *gx1 = gx + next;
    uint32_t largest = k->largest;
    for (int32_t done = 0; done < count; done += LANES) {
        const int32_t ci = tt_min(done, count - LANES);
        int32_t sums[2 * LANES] = {0};
        add_products(k->args->scratch, block->weights + ci, count, block->co_count, sums);
#pragma GCC unroll 4
        for (int32_t i = 0; i < LANES; i++) {
            tt_see(&largest, sums[i]);
            gx[ci + i] = shifted(&rounding, sums[i], index + ci + i);
            tt_see(&largest, sums[LANES + i]);
            gx1[ci + i] = shifted(&rounding, sums[LANES + i], index + next + ci + i);
        }
    }
    k->largest = largest;
}

// Is store_block right for all blocks?
static int all_simple(const work *k) {
    const tt_conv2d_input_gradient_args *a = k->args;
    int simple = !k->wide && k->rounding.right >= 1 && k->rounding.right <= 31;
    for (int32_t i = 0; i < a->block_count; i++) {
        simple = simple && a->blocks[i].co_count == a->y_channels && a->blocks[i].ci_count >= LANES;
    }
    return simple;
}

// May two pixels go together? They do where each saw one output, its own.
static int in_pairs(const tt_conv2d_input_gradient_args *a) {
    const tt_window *win = &a->window;
    return win->kernel_height == 1 && win->kernel_width == 1 && win->stride_height == 1 && win->stride_width == 1 &&
           win->y_height == win->x_height && win->y_width == win->x_width && a->scratch_bytes >= 4 * a->y_channels;
}

static inline void tt_portable_input_gradient(const tt_conv2d_input_gradient_args *a) {
    const tt_window *win = &a->window;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    work k = {a, tt_gradient_begin(a->gx_exponent, sums_exponent), 1, 0, 0, 0};
    k.wide = win->kernel_height * win->kernel_width * a->y_channels > CHUNK;
    const int32_t count = win->x_height * win->x_width, most = in_pairs(a) ? 2 : 1, simple = all_simple(&k);
    for (int32_t p = 0; p < count; p += k.pixels) {
        const tt_cover at = tt_cover_of(win, p / win->x_width, p % win->x_width);
        k.pixels = tt_min(most, count - p);
        gather(&k, &at, a->scratch);
        if (k.pixels == 2) {
            const tt_cover next = tt_cover_of(win, (p + 1) / win->x_width, (p + 1) % win->x_width);
            gather(&k, &next, a->scratch + 1);
        }
        if (k.pixels == 2 && simple) {
            for (int32_t i = 0; i < a->block_count; i++) {
                store_block(&k, &a->blocks[i], p * a->x_channels + a->blocks[i].ci_start);
            }
        } else {
            store_pixels(&k, &at, p * a->x_channels);
        }
    }
    tt_exponent_end(a->gx_exponent, k.wide ? k.widest : k.largest, sums_exponent);
}

#endif
