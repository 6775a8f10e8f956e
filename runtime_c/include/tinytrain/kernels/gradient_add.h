// SPDX-License-Identifier: Apache-2.0
// The sum of two gradients of one tensor.
#ifndef TINYTRAIN_KERNELS_GRADIENT_ADD_H
#define TINYTRAIN_KERNELS_GRADIENT_ADD_H

#include "tinytrain/types.h"

// y = a + b as mantissas under a delayed exponent. In place: y may be a or b.
typedef struct tt_gradient_add_args {
    const void *a;                  // mantissas [size]
    const void *b;                  // mantissas [size]
    void *y;                        // mantissas [size]
    int32_t size;
    const tt_exponent *a_exponent;  // or NULL: the exponent is the offset alone
    int32_t a_exponent_offset;
    const tt_exponent *b_exponent;  // or NULL
    int32_t b_exponent_offset;
    tt_exponent *y_exponent;
} tt_gradient_add_args;
typedef tt_gradient_add_args tt_gradient_add_s16_args;
typedef tt_gradient_add_args tt_gradient_add_s8_args;
void tt_gradient_add_s16(const void *args);
void tt_gradient_add_s8(const void *args);

#endif
