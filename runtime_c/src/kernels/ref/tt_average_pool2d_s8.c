// SPDX-License-Identifier: Apache-2.0
// tt_average_pool2d_s8: one channel at a time.
#include "tinytrain/kernels/average_pool2d.h"
#include "tinytrain/window.h"

static int32_t sum_cells(const tt_average_pool2d_s8_args *a, const tt_patch *at, int32_t c) {
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * a->window.x_width + at->x0 + first) * a->channels + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->channels) { sum += *x; }
    }
    return sum;
}

void tt_average_pool2d_s8(const void *args) {
    const tt_average_pool2d_s8_args *a = args;
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            const int32_t cells = tt_cells(&at), half = cells / 2;
            for (int32_t c = 0; c < a->channels; c++) {
                const int32_t sum = sum_cells(a, &at, c);
                const int32_t mean = (sum > 0 ? sum + half : sum - half) / cells;
                *y++ = (int8_t)tt_clamp(mean, a->clamp_low, a->clamp_high);
            }
        }
    }
}
