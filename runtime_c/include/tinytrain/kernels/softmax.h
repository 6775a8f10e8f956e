// SPDX-License-Identifier: Apache-2.0
// Softmax of int8 rows, TFLite's fixed-point reference.
#ifndef TINYTRAIN_KERNELS_SOFTMAX_H
#define TINYTRAIN_KERNELS_SOFTMAX_H

#include "tinytrain/types.h"

// y = 256 exp(x - max) / sum of exp(x - max) - 128, row by row. In place: y may be x. Scratch: none.
// The sum has 12 integer bits: columns <= 4095 (checked at compile time).
typedef struct tt_softmax_s8_args {
    const int8_t *x;            // [rows, columns]
    int8_t *y;                  // [rows, columns], scale 1/256, zero point -128
    int32_t rows, columns;
    int32_t multiplier, shift;  // from differences of x's integers to 26 fractional bits; shift >= 0
    int32_t smallest;           // <= 0; a difference below it counts as minus infinity
} tt_softmax_s8_args;
void tt_softmax_s8(const void *args);

#endif
