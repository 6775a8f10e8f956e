// SPDX-License-Identifier: Apache-2.0
// tt_clamp_mask_s8 for a scalar core: one comparison per element.
#include "tinytrain/kernels/clamp_mask.h"

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    const int32_t first = a->clamp_low + 1;
    const uint32_t count = a->clamp_high > first ? (uint32_t)(a->clamp_high - first) : 0;  // of values that pass
    const int8_t *y = a->y, *end = y + a->size;
    uint8_t *mask = a->mask;
    for (; end - y >= 8; y += 8) {
        uint32_t bits = 0;
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++) {
            if ((uint32_t)(y[i] - first) < count) { bits |= 1U << i; }
        }
        *mask++ = (uint8_t)bits;
    }
    if (y == end) { return; }
    uint32_t bits = 0;
    for (uint32_t i = 0; y < end; i++, y++) { bits |= (uint32_t)((uint32_t)(*y - first) < count) << i; }
    *mask = (uint8_t)bits;
}
