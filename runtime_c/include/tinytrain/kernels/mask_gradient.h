// SPDX-License-Identifier: Apache-2.0
// The gradient of a clamp.
#ifndef TINYTRAIN_KERNELS_MASK_GRADIENT_H
#define TINYTRAIN_KERNELS_MASK_GRADIENT_H

#include "tinytrain/types.h"

// gx[i] = gy[i] where bit i of the mask is set, else 0. In place: gx may be gy.
typedef struct tt_mask_gradient_args {
    const void *gy;       // mantissas [size]
    const uint8_t *mask;  // [(size + 7) / 8]
    void *gx;             // mantissas [size]
    int32_t size;
} tt_mask_gradient_args;
typedef tt_mask_gradient_args tt_mask_gradient_s16_args;
typedef tt_mask_gradient_args tt_mask_gradient_s8_args;
void tt_mask_gradient_s16(const void *args);
void tt_mask_gradient_s8(const void *args);

#endif
