// SPDX-License-Identifier: Apache-2.0
// tt_max_pool2d_winner_s8: the walk of tt_max_pool2d_s8, keeping where the maximum was first met.
#include "tinytrain/kernels/max_pool2d.h"
#include "tinytrain/window.h"

static uint8_t first_largest(const tt_max_pool2d_winner_s8_args *a, const tt_patch *at, int32_t c) {
    int32_t largest = INT8_MIN - 1, winner = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * a->window.x_width + at->x0 + first) * a->channels + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->channels) {
            if (*x > largest) {
                largest = *x;
                winner = ky * a->window.kernel_width + kx;
            }
        }
    }
    return (uint8_t)winner;
}

void tt_max_pool2d_winner_s8(const void *args) {
    const tt_max_pool2d_winner_s8_args *a = args;
    uint8_t *winner = a->winner;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        for (int32_t ox = 0; ox < a->window.y_width; ox++) {
            const tt_patch at = tt_patch_of(&a->window, oy, ox);
            for (int32_t c = 0; c < a->channels; c++) { *winner++ = first_largest(a, &at, c); }
        }
    }
}
