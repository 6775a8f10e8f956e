// SPDX-License-Identifier: Apache-2.0
// tt_pad_s8: fill, then copy runs.
#include <string.h>

#include "tinytrain/kernels/pad.h"

void tt_pad_s8(const void *args) {
    const tt_pad_s8_args *a = args;
    const tt_box *box = &a->box;
    const int8_t *x = a->x;
    memset(a->y, (int)a->value, (size_t)(box->padded_planes * box->padded_rows * box->padded_run));
    for (int32_t plane = 0; plane < box->planes; plane++) {
        for (int32_t row = 0; row < box->rows; row++, x += box->run) {
            const int32_t y_row = (box->planes_before + plane) * box->padded_rows + box->rows_before + row;
            memcpy(a->y + y_row * box->padded_run + box->run_before, x, (size_t)box->run);
        }
    }
}
