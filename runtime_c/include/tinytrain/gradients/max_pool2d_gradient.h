// SPDX-License-Identifier: Apache-2.0
// tt_max_pool2d_gradient: for each pixel of x, the gradients of the windows it won are summed in scratch.
// A pixel lies in at most 256 windows: int32 holds the sum.
#ifndef TINYTRAIN_GRADIENTS_MAX_POOL2D_GRADIENT_H
#define TINYTRAIN_GRADIENTS_MAX_POOL2D_GRADIENT_H

#include <string.h>

#include "tinytrain/gradients/pool2d_gradient.h"
#include "tinytrain/kernels/max_pool2d.h"
#include "tinytrain/window.h"

static inline void gather(const tt_max_pool2d_gradient_args *a, int32_t py, int32_t px) {
    const tt_window *win = &a->window;
    const tt_range rows = tt_outputs_over(py, win->kernel_height, win->stride_height, win->pad_top, win->y_height);
    const tt_range columns = tt_outputs_over(px, win->kernel_width, win->stride_width, win->pad_left, win->y_width);
    memset(a->scratch, 0, sizeof(int32_t) * (size_t)a->channels);
    for (int32_t oy = rows.first; oy < rows.last; oy++) {
        const int32_t ky = py + win->pad_top - oy * win->stride_height;
        for (int32_t ox = columns.first; ox < columns.last; ox++) {
            const int32_t cell = ky * win->kernel_width + px + win->pad_left - ox * win->stride_width;
            const int32_t start = (oy * win->y_width + ox) * a->channels;
            const tt_mantissa *gy = (const tt_mantissa *)a->gy + start;
            const uint8_t *winner = a->winner + start;
            for (int32_t c = 0; c < a->channels; c++) { a->scratch[c] += winner[c] == cell ? gy[c] : 0; }
        }
    }
}

static inline void tt_max_pool2d_gradient(const tt_max_pool2d_gradient_args *a) {
    tt_pooled pooled = tt_pooled_begin(a->gx_exponent, tt_exponent_of(a->gy_exponent, a->gy_exponent_offset));
    int32_t index = 0;
    for (int32_t py = 0; py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++, index += a->channels) {
            gather(a, py, px);
            tt_pooled_store(&pooled, a->scratch, a->channels, index, a->gx);
        }
    }
    tt_pooled_end(&pooled);
}

#endif
