// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8: output by output.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/output.h"
#include "tinytrain/window.h"

// Channel c of a block, with the window at a place.
static int32_t sum_channel(const tt_depthwise_conv2d_s8_args *a, const tt_depthwise_block *block, const tt_patch *at,
                           int32_t c) {
    const tt_window *win = &a->window;
    const int32_t ci = (block->start + c) / a->channel_multiplier;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx++) {
            const int32_t pixel = (at->y0 + ky) * win->x_width + at->x0 + kx;
            const int32_t w = block->weights[(ky * win->kernel_width + kx) * block->count + c];
            sum += (a->x[pixel * a->x_channels + ci] - a->x_zero_point) * w;
        }
    }
    return sum;
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            for (int32_t i = 0; i < a->block_count; i++) {
                const tt_depthwise_block *block = &a->blocks[i];
                for (int32_t c = 0; c < block->count; c++) {
                    *y++ = tt_output_of(&output, sum_channel(a, block, &at, c), block->start + c);
                }
            }
        }
    }
}
