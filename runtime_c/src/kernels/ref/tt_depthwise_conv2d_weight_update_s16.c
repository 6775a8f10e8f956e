// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update_s16: one weight at a time, summed over the outputs whose window position is inside
// the image.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/update.h"
#include "tinytrain/window.h"

// 256 products of an int16 gradient and a difference of int8 fit 31 bits and a sign.
enum { CHUNK = 256 };

// Of output channel co, which reads channel ci of x, and kernel position (ky, kx).
static int64_t sum_pixels(const tt_depthwise_conv2d_weight_update_s16_args *a, int32_t co, int32_t ci, int32_t ky,
                          int32_t kx) {
    const tt_window *win = &a->window;
    const tt_range rows = tt_outputs_inside(ky, win->stride_height, win->pad_top, win->x_height, win->y_height);
    const tt_range columns = tt_outputs_inside(kx, win->stride_width, win->pad_left, win->x_width, win->y_width);
    const int32_t x_step = win->stride_width * a->x_channels;
    int64_t sum = 0;
    for (int32_t oy = rows.first; oy < rows.last; oy++) {
        const int32_t py = oy * win->stride_height + ky - win->pad_top;
        for (int32_t start = columns.first; start < columns.last; start += CHUNK) {
            const int32_t end = tt_min(start + CHUNK, columns.last);
            const int32_t px = start * win->stride_width + kx - win->pad_left;
            const int8_t *x = a->x + (py * win->x_width + px) * a->x_channels + ci;
            const int16_t *gy = a->gy + (oy * win->y_width + start) * a->y_channels + co;
            int32_t part = 0;
            for (int32_t ox = start; ox < end; ox++, x += x_step, gy += a->y_channels) {
                part += *gy * (*x - a->x_zero_point);
            }
            sum += part;
        }
    }
    return sum;
}

void tt_depthwise_conv2d_weight_update_s16(const void *args) {
    const tt_depthwise_conv2d_weight_update_s16_args *a = args;
    for (int32_t c = 0; c < a->count; c++) {
        const tt_rate rate = tt_rate_of_channel(&a->update, c);
        const int32_t ci = (a->first_position + c) / a->channel_multiplier;
        int32_t index = c;
        for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
            for (int32_t kx = 0; kx < a->window.kernel_width; kx++, index += a->count) {
                tt_update_element(&a->update, &rate, (uint32_t)index, sum_pixels(a, a->start + c, ci, ky, kx));
            }
        }
    }
}
