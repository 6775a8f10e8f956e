// SPDX-License-Identifier: Apache-2.0
// tt_average_pool2d_gradient: for each pixel of x, the scaled gradients of the windows over it are summed in scratch.
// A term is at most 32768 and a pixel lies in at most 65535 windows: int32 holds the sum.
#ifndef TINYTRAIN_GRADIENTS_AVERAGE_POOL2D_GRADIENT_H
#define TINYTRAIN_GRADIENTS_AVERAGE_POOL2D_GRADIENT_H

#include <string.h>

#include "tinytrain/gradients/pool2d_gradient.h"
#include "tinytrain/kernels/average_pool2d.h"
#include "tinytrain/window.h"

static inline void gather(const tt_average_pool2d_gradient_args *a, int32_t py, int32_t px) {
    const tt_window *win = &a->window;
    const tt_range rows = tt_outputs_over(py, win->kernel_height, win->stride_height, win->pad_top, win->y_height);
    const tt_range columns = tt_outputs_over(px, win->kernel_width, win->stride_width, win->pad_left, win->y_width);
    memset(a->scratch, 0, sizeof(int32_t) * (size_t)a->channels);
    for (int32_t oy = rows.first; oy < rows.last; oy++) {
        for (int32_t ox = columns.first; ox < columns.last; ox++) {
            const tt_patch patch = tt_patch_of(win, oy, ox);
            const int32_t cells = tt_cells(&patch), factor = (a->one + cells / 2) / cells;
            const tt_mantissa *gy = (const tt_mantissa *)a->gy + (oy * win->y_width + ox) * a->channels;
            for (int32_t c = 0; c < a->channels; c++) { a->scratch[c] += tt_scaled_gradient(gy[c], factor); }
        }
    }
}

static inline void tt_average_pool2d_gradient(const tt_average_pool2d_gradient_args *a) {
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
