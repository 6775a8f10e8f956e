// SPDX-License-Identifier: Apache-2.0
// Padding, and its gradient.
#ifndef TINYTRAIN_KERNELS_PAD_H
#define TINYTRAIN_KERNELS_PAD_H

#include "tinytrain/types.h"

// A tensor [planes, rows, run] inside a larger one; all in elements.
typedef struct tt_box {
    int32_t planes, rows, run;
    int32_t padded_planes, padded_rows, padded_run;
    int32_t planes_before, rows_before, run_before;  // padding in front
} tt_box;

// y = x inside the box, `value` around it. In place: no. Scratch: none.
typedef struct tt_pad_s8_args {
    const int8_t *x;      // [planes, rows, run]
    int8_t *y;            // [padded_planes, padded_rows, padded_run]
    tt_box box;
    int32_t value;        // x's zero point
} tt_pad_s8_args;
void tt_pad_s8(const void *args);

// gx = the part of gy inside the box. In place: no. Scratch: none.
typedef struct tt_pad_gradient_args {
    const void *gy;       // mantissas [padded_planes, padded_rows, padded_run]
    void *gx;             // mantissas [planes, rows, run]
    tt_box box;
} tt_pad_gradient_args;
typedef tt_pad_gradient_args tt_pad_gradient_s16_args;
typedef tt_pad_gradient_args tt_pad_gradient_s8_args;
void tt_pad_gradient_s16(const void *args);
void tt_pad_gradient_s8(const void *args);

#endif
