// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_MASK_GRADIENT_H
#define TINYTRAIN_GRADIENTS_MASK_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mask_gradient.h"

static inline void tt_mask_gradient(const tt_mask_gradient_args *a) {
    const tt_mantissa *gy = a->gy;
    tt_mantissa *gx = a->gx;
    for (int32_t i = 0; i < a->size; i++) { gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0; }
}

#endif
