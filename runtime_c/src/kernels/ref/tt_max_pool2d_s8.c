// SPDX-License-Identifier: Apache-2.0
// tt_max_pool2d_s8: one channel at a time.
#include "tinytrain/kernels/max_pool2d.h"
#include "tinytrain/window.h"

static int32_t largest_cell(const tt_max_pool2d_s8_args *a, const tt_patch *at, int32_t c) {
    int32_t largest = INT8_MIN;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * a->window.x_width + at->x0 + first) * a->channels + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->channels) {
            if (*x > largest) { largest = *x; }
        }
    }
    return largest;
}

void tt_max_pool2d_s8(const void *args) {
    const tt_max_pool2d_s8_args *a = args;
    int8_t *y = a->y;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            for (int32_t c = 0; c < a->channels; c++) {
                *y++ = (int8_t)tt_clamp(largest_cell(a, &at, c), a->clamp_low, a->clamp_high);
            }
        }
    }
}
