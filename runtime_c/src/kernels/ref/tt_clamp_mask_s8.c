// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/clamp_mask.h"

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    uint8_t *mask = a->mask;
    for (int32_t start = 0; start < a->size; start += 8) {
        const int32_t count = a->size - start < 8 ? a->size - start : 8;
        uint32_t bits = 0;
        for (int32_t i = 0; i < count; i++) {
            const int32_t y = a->y[start + i];
            bits |= (y > a->clamp_low && y < a->clamp_high ? 1U : 0U) << i;
        }
        *mask++ = (uint8_t)bits;
    }
}
