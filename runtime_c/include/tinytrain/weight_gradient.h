// SPDX-License-Identifier: Apache-2.0
// The gradient of a weight of a sliding window.
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

// The outputs whose kernel position (ky, kx) lies inside the image, and the first of them and the pixel it meets.
typedef struct tt_meeting {
    int32_t rows, columns;
    int32_t output, pixel;
} tt_meeting;

// 256 products of a 16-bit mantissa and a difference of int8 fit 31 bits and a sign.
enum { TT_WEIGHT_GRADIENT_CHUNK = 256 };

static inline tt_meeting tt_meeting_of(const tt_window *win, int32_t ky, int32_t kx) {
    const tt_range rows = tt_outputs_inside(ky, win->stride_height, win->pad_top, win->x_height, win->y_height);
    const tt_range columns = tt_outputs_inside(kx, win->stride_width, win->pad_left, win->x_width, win->y_width);
    const int32_t py = rows.first * win->stride_height + ky - win->pad_top;
    const int32_t px = columns.first * win->stride_width + kx - win->pad_left;
    const tt_meeting meeting = {rows.last - rows.first, columns.last - columns.first,
                                rows.first * win->y_width + columns.first, py * win->x_width + px};
    return meeting;
}

// The exact gradient of one weight.
static inline int64_t tt_weight_gradient(const tt_gradient_source *s, const tt_meeting *m, int32_t ci, int32_t co) {
    const int32_t x_step = s->window->stride_width * s->x_channels;
    int64_t sum = 0;
    for (int32_t row = 0; row < m->rows; row++) {
        const int32_t pixel = m->pixel + row * s->window->stride_height * s->window->x_width;
        const int8_t *x = s->x + pixel * s->x_channels + ci;
        const tt_mantissa *gy = s->gy + (m->output + row * s->window->y_width) * s->y_channels + co;
        for (int32_t start = 0; start < m->columns; start += TT_WEIGHT_GRADIENT_CHUNK) {
            const int32_t end = tt_min(start + TT_WEIGHT_GRADIENT_CHUNK, m->columns);
            int32_t part = 0;
            for (int32_t column = start; column < end; column++, x += x_step, gy += s->y_channels) {
                part += *gy * (*x - s->x_zero_point);
            }
            sum += part;
        }
    }
    return sum;
}

#endif
