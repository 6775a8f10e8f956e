// SPDX-License-Identifier: Apache-2.0
// tt_pad_gradient: copy runs.
#ifndef TINYTRAIN_GRADIENTS_PAD_GRADIENT_H
#define TINYTRAIN_GRADIENTS_PAD_GRADIENT_H

#include <string.h>

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/pad.h"

static inline void tt_pad_gradient(const tt_pad_gradient_args *a) {
    const tt_box *box = &a->box;
    const tt_mantissa *gy = a->gy;
    tt_mantissa *gx = a->gx;
    for (int32_t plane = 0; plane < box->planes; plane++) {
        for (int32_t row = 0; row < box->rows; row++, gx += box->run) {
            const int32_t y_row = (box->planes_before + plane) * box->padded_rows + box->rows_before + row;
            memcpy(gx, gy + y_row * box->padded_run + box->run_before, sizeof(tt_mantissa) * (size_t)box->run);
        }
    }
}

#endif
