// SPDX-License-Identifier: Apache-2.0
// The sum of two gradients of one tensor.
#ifndef TINYTRAIN_KERNELS_GRADIENT_ADD_H
#define TINYTRAIN_KERNELS_GRADIENT_ADD_H

#include "tinytrain/types.h"

// y = a + b as int16 mantissas under a delayed exponent. In place: y may be a or b.
typedef struct tt_gradient_add_s16_args {
    const int16_t *a;
    const int16_t *b;
    int16_t *y;
    int32_t size;
    const tt_exponent *a_exponent;  // or NULL: the exponent is the offset alone
    int32_t a_exponent_offset;
    const tt_exponent *b_exponent;  // or NULL
    int32_t b_exponent_offset;
    tt_exponent *y_exponent;
} tt_gradient_add_s16_args;
void tt_gradient_add_s16(const void *args);

#endif
