// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: four output channels share each load of x; blocks are walked inside one set of sums.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

enum { ROWS = 4 };

typedef struct position {
    int32_t y0, x0;  // top left of the window in the image, may be negative
    tt_range rows, columns;
} position;

static void add_four_rows(const tt_conv2d_s8_args *a, const tt_weight_block *block, const position *at, int32_t co,
                          int32_t *sums) {
    const tt_window *win = &a->window;
    const int32_t row_size = win->kernel_height * win->kernel_width * block->ci_count;
    const int8_t *first = block->weights + (co - block->co_start) * row_size;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx++) {
            const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + kx) * a->x_channels + block->ci_start;
            const int8_t *w0 = first + (ky * win->kernel_width + kx) * block->ci_count;
            const int8_t *w1 = w0 + row_size, *w2 = w1 + row_size, *w3 = w2 + row_size;
            for (int32_t ci = 0; ci < block->ci_count; ci++) {
                const int32_t value = x[ci] - a->x_zero_point;
                s0 += value * w0[ci];
                s1 += value * w1[ci];
                s2 += value * w2[ci];
                s3 += value * w3[ci];
            }
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static void add_row(const tt_conv2d_s8_args *a, const tt_weight_block *block, const position *at, int32_t co,
                    int32_t *sum) {
    const tt_window *win = &a->window;
    const int32_t row_size = win->kernel_height * win->kernel_width * block->ci_count;
    const int8_t *row = block->weights + (co - block->co_start) * row_size;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx++) {
            const int8_t *x = a->x + ((at->y0 + ky) * win->x_width + at->x0 + kx) * a->x_channels + block->ci_start;
            const int8_t *w = row + (ky * win->kernel_width + kx) * block->ci_count;
            for (int32_t ci = 0; ci < block->ci_count; ci++) { *sum += (x[ci] - a->x_zero_point) * w[ci]; }
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

static void pixel(const tt_conv2d_s8_args *a, const position *at, int8_t *y) {
    for (int32_t co = 0, rows = 0; co < a->y_channels; co += rows) {
        int32_t sums[ROWS] = {0, 0, 0, 0};
        rows = rows_together(a, co);
        for (int32_t i = 0; i < a->block_count; i++) {
            const tt_weight_block *block = &a->blocks[i];
            if (!holds(block, co)) { continue; }
            if (rows == ROWS) {
                add_four_rows(a, block, at, co, sums);
            } else {
                for (int32_t r = 0; r < rows; r++) { add_row(a, block, at, co + r, &sums[r]); }
            }
        }
        for (int32_t r = 0; r < rows; r++) {
            const int32_t total = tt_saturating_add(sums[r], a->bias[co + r]);
            const int32_t value = tt_requantize(total, a->multiplier[co + r], a->shift[co + r], a->single_rounding);
            y[co + r] = (int8_t)tt_clamp(value + a->y_zero_point, a->clamp_low, a->clamp_high);
        }
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < win->y_height; oy++) {
        for (int32_t ox = 0; ox < win->y_width; ox++) {
            position at = {oy * win->stride_height - win->pad_top, ox * win->stride_width - win->pad_left, {0, 0}, {0, 0}};
            at.rows = tt_inside(at.y0, win->kernel_height, win->x_height);
            at.columns = tt_inside(at.x0, win->kernel_width, win->x_width);
            pixel(a, &at, y);
            y += a->y_channels;
        }
    }
}
