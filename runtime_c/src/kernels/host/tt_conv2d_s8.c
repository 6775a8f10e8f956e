// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: four output channels at a time over the whole image; they share each load of x. Blocks are walked
// inside one set of sums. Where a block has all input channels, a row of the window is one run of x and of the weights.
// A host works on vectors of output channels (tinytrain/vectors/packed_conv2d.h) where an image has more than a few pixels.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/vectors/packed_conv2d.h"
#include "tinytrain/window.h"

enum { ROWS = 4 };

TT_INNER_LOOP static void add_four_runs(const int8_t *x, const int8_t *w, int32_t row_size, int32_t count,
                                        int32_t zero_point, int32_t *sums) {
    const int8_t *w1 = w + row_size, *w2 = w1 + row_size, *w3 = w2 + row_size;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (int32_t i = 0; i < count; i++) {
        const int32_t value = x[i] - zero_point;
        s0 += value * w[i];
        s1 += value * w1[i];
        s2 += value * w2[i];
        s3 += value * w3[i];
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

TT_INNER_LOOP static void add_run(const int8_t *x, const int8_t *w, int32_t count, int32_t zero_point, int32_t *sum) {
    int32_t s = *sum;
    for (int32_t i = 0; i < count; i++) { s += (x[i] - zero_point) * w[i]; }
    *sum = s;
}

static void add_block(const tt_conv2d_s8_args *a, const tt_weight_block *block, const tt_patch *at, int32_t co,
                      int32_t rows, int32_t *sums) {
    const tt_window *win = &a->window;
    const int32_t row_size = win->kernel_height * win->kernel_width * block->ci_count;
    const int8_t *first = block->weights + (co - block->co_start) * row_size;
    const int whole = block->ci_count == a->x_channels;
    const int32_t step = whole ? at->columns.last - at->columns.first : 1;
    const int32_t count = step * block->ci_count;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx += step) {
            const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + kx) * a->x_channels + block->ci_start;
            const int8_t *w = first + (ky * win->kernel_width + kx) * block->ci_count;
            if (rows == ROWS) {
                add_four_runs(x, w, row_size, count, a->x_zero_point, sums);
            } else {
                for (int32_t r = 0; r < rows; r++) {
                    add_run(x, w + r * row_size, count, a->x_zero_point, &sums[r]);
                }
            }
        }
    }
}

static int holds(const tt_weight_block *block, int32_t co) {
    return co >= block->co_start && co < block->co_start + block->co_count;
}

// How many output channels from `co` on lie in the same blocks, at most ROWS.
static int32_t rows_together(const tt_conv2d_s8_args *a, int32_t co) {
    int32_t rows = tt_min(ROWS, a->y_channels - co);
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        if (block->co_start > co) { rows = tt_min(rows, block->co_start - co); }
        if (holds(block, co)) { rows = tt_min(rows, block->co_start + block->co_count - co); }
    }
    return rows;
}

TT_INNER_LOOP static void finish(const tt_output *output, const int32_t *sums, int32_t co, int32_t rows, int8_t *y) {
    for (int32_t r = 0; r < rows; r++) { y[r] = tt_output_of(output, sums[r], co + r); }
}

static void pixel(const tt_conv2d_s8_args *a, const tt_output *output, const tt_patch *at, int32_t co, int32_t rows,
                  int8_t *y) {
    int32_t sums[ROWS] = {0, 0, 0, 0};
    for (int32_t i = 0; i < a->block_count; i++) {
        if (holds(&a->blocks[i], co)) { add_block(a, &a->blocks[i], at, co, rows, sums); }
    }
    finish(output, sums, co, rows, y);
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
#if TT_VECTOR_LANES > 1
    if (tt_worth_packing(a)) {
        tt_packed_conv2d(a, &output);
        return;
    }
#endif
    for (int32_t co = 0, rows = 0; co < a->y_channels; co += rows) {
        int8_t *y = a->y + co;
        rows = rows_together(a, co);
        for (int32_t oy = 0; oy < win->y_height; oy++) {
            for (int32_t ox = 0; ox < win->y_width; ox++, y += a->y_channels) {
                const tt_patch at = tt_patch_of(win, oy, ox);
                pixel(a, &output, &at, co, rows, y);
            }
        }
    }
}
