// SPDX-License-Identifier: Apache-2.0
// tt_pad_gradient_s16: copy runs.
#include <string.h>

#include "tinytrain/kernels/pad.h"

void tt_pad_gradient_s16(const void *args) {
    const tt_pad_gradient_s16_args *a = args;
    const tt_box *box = &a->box;
    int16_t *gx = a->gx;
    for (int32_t plane = 0; plane < box->planes; plane++) {
        for (int32_t row = 0; row < box->rows; row++, gx += box->run) {
            const int32_t y_row = (box->planes_before + plane) * box->padded_rows + box->rows_before + row;
            memcpy(gx, a->gy + y_row * box->padded_run + box->run_before, sizeof(int16_t) * (size_t)box->run);
        }
    }
}
