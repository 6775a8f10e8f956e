// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_MASK_GRADIENT_H
#define TINYTRAIN_GRADIENTS_MASK_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mask_gradient.h"

static inline void tt_mask_gradient(const tt_mask_gradient_args *a) {
    const tt_mantissa *gy = a->gy;
    tt_mantissa *gx = a->gx;
    const int32_t whole = a->size - a->size % 8;
    for (int32_t start = 0; start < whole; start += 8) {
        const int32_t bits = a->mask[start >> 3];
        for (int32_t i = 0; i < 8; i++) { gx[start + i] = (tt_mantissa)(gy[start + i] & -((bits >> i) & 1)); }
    }
    for (int32_t i = whole; i < a->size; i++) { gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0; }
}

#endif
