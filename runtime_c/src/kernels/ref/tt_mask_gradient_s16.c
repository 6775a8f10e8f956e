// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/mask_gradient.h"

void tt_mask_gradient_s16(const void *args) {
    const tt_mask_gradient_s16_args *a = args;
    for (int32_t i = 0; i < a->size; i++) { a->gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? a->gy[i] : 0; }
}
