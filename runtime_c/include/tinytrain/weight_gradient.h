// SPDX-License-Identifier: Apache-2.0
// The gradient of one weight of a sliding window.
#ifndef TINYTRAIN_WEIGHT_GRADIENT_H
#define TINYTRAIN_WEIGHT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/window.h"

// What every weight of a layer is summed over: x [x_height, x_width, x_channels], gy [y_height, y_width, y_channels].
typedef struct tt_gradient_source {
    const int8_t *x;
    const tt_mantissa *gy;
    const tt_window *window;
    int32_t x_zero_point;
    int32_t x_channels, y_channels;
} tt_gradient_source;

// 256 products of a 16-bit mantissa and a difference of int8 fit 31 bits and a sign.
enum { TT_WEIGHT_GRADIENT_CHUNK = 256 };

// Sum of gy[co] * (x[ci] - zero point) over the outputs whose kernel position (ky, kx) lies inside the image; exact.
static inline int64_t tt_weight_gradient(const tt_gradient_source *s, int32_t co, int32_t ci, int32_t ky, int32_t kx) {
    const tt_window *win = s->window;
    const tt_range rows = tt_outputs_inside(ky, win->stride_height, win->pad_top, win->x_height, win->y_height);
    const tt_range columns = tt_outputs_inside(kx, win->stride_width, win->pad_left, win->x_width, win->y_width);
    const int32_t x_step = win->stride_width * s->x_channels;
    int64_t sum = 0;
    for (int32_t oy = rows.first; oy < rows.last; oy++) {
        const int32_t py = oy * win->stride_height + ky - win->pad_top;
        for (int32_t start = columns.first; start < columns.last; start += TT_WEIGHT_GRADIENT_CHUNK) {
            const int32_t end = tt_min(start + TT_WEIGHT_GRADIENT_CHUNK, columns.last);
            const int32_t px = start * win->stride_width + kx - win->pad_left;
            const int8_t *x = s->x + (py * win->x_width + px) * s->x_channels + ci;
            const tt_mantissa *gy = s->gy + (oy * win->y_width + start) * s->y_channels + co;
            int32_t part = 0;
            for (int32_t ox = start; ox < end; ox++, x += x_step, gy += s->y_channels) {
                part += *gy * (*x - s->x_zero_point);
            }
            sum += part;
        }
    }
    return sum;
}

#endif
