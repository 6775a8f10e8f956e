// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: output by output.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/output.h"
#include "tinytrain/window.h"

// What a block adds to output channel co, with the window at a place.
static int32_t sum_block(const tt_conv2d_s8_args *a, const tt_weight_block *block, const tt_patch *at, int32_t co) {
    const tt_window *win = &a->window;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx++) {
            const int32_t pixel = (at->y0 + ky) * win->x_width + at->x0 + kx;
            const int32_t row = ((co - block->co_start) * win->kernel_height + ky) * win->kernel_width + kx;
            const int8_t *x = a->x + pixel * a->x_channels + block->ci_start;
            const int8_t *w = block->weights + row * block->ci_count;
            for (int32_t i = 0; i < block->ci_count; i++) { sum += (x[i] - a->x_zero_point) * w[i]; }
        }
    }
    return sum;
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < win->y_height; oy++) {
        for (int32_t ox = 0; ox < win->y_width; ox++) {
            const tt_patch at = tt_patch_of(win, oy, ox);
            for (int32_t co = 0; co < a->y_channels; co++) {
                int32_t sum = 0;
                for (int32_t i = 0; i < a->block_count; i++) {
                    const tt_weight_block *block = &a->blocks[i];
                    const int holds = co >= block->co_start && co < block->co_start + block->co_count;
                    if (holds) { sum += sum_block(a, block, &at, co); }
                }
                *y++ = tt_output_of(&output, sum, co);
            }
        }
    }
}
