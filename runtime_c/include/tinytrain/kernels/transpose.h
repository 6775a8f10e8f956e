// SPDX-License-Identifier: Apache-2.0
// Dimensions in another order, up to four of them; fewer are preceded by dimensions of one element.
#ifndef TINYTRAIN_KERNELS_TRANSPOSE_H
#define TINYTRAIN_KERNELS_TRANSPOSE_H

#include "tinytrain/types.h"

// y[i, j, k, l] = x[i s0 + j s1 + k s2 + l s3]. In place: no. Scratch: none.
typedef struct tt_transpose_s8_args {
    const int8_t *x;
    int8_t *y;               // extents[0] x extents[1] x extents[2] x extents[3]
    const int32_t *extents;  // [4], of y
    const int32_t *x_steps;  // [4], elements of x from one index of y's dimension to the next
} tt_transpose_s8_args;
void tt_transpose_s8(const void *args);

// The same for int16 elements: gradients.
typedef struct tt_transpose_s16_args {
    const int16_t *x;
    int16_t *y;
    const int32_t *extents;  // [4]
    const int32_t *x_steps;  // [4]
} tt_transpose_s16_args;
void tt_transpose_s16(const void *args);

#endif
