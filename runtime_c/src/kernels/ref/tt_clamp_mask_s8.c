// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/clamp_mask.h"
#include "tinytrain/arithmetic.h"

// The bits of `count` elements, at most 8.
static uint8_t bits_of(const tt_clamp_mask_s8_args *a, const int8_t *elements, int32_t count) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t y = elements[i];
        bits |= (y > a->clamp_low && y < a->clamp_high ? 1U : 0U) << i;
    }
    return (uint8_t)bits;
}

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    uint8_t *mask = a->mask;
    for (int32_t start = 0; start < a->size; start += 8) {
        *mask++ = bits_of(a, a->y + start, tt_min(8, a->size - start));
    }
}
