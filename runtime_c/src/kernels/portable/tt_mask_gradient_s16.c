// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16 for a scalar core: in place only what is masked is touched.
#include "tinytrain/kernels/mask_gradient.h"

static void clear_masked(const tt_mask_gradient_args *a) {
    int16_t *gx = a->gx, *end = gx + a->size;
    const uint8_t *mask = a->mask;
    for (; end - gx >= 8; gx += 8) {
        const uint32_t bits = *mask++;
        if (bits == 0xFF) { continue; }
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; i++) {
            if (((bits >> i) & 1) == 0) { gx[i] = 0; }
        }
    }
    for (uint32_t i = 0; gx < end; i++, gx++) {
        if (((*mask >> i) & 1) == 0) { *gx = 0; }
    }
}

void tt_mask_gradient_s16(const void *args) {
    const tt_mask_gradient_args *a = args;
    if (a->gx == a->gy) {
        clear_masked(a);
        return;
    }
    const int16_t *gy = a->gy;
    int16_t *gx = a->gx;
    const int32_t whole = a->size - a->size % 8;
    for (int32_t start = 0; start < whole; start += 8) {
        const int32_t bits = a->mask[start >> 3];
#pragma GCC unroll 8
        for (int32_t i = 0; i < 8; i++) { gx[start + i] = (int16_t)(gy[start + i] & -((bits >> i) & 1)); }
    }
    for (int32_t i = whole; i < a->size; i++) { gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0; }
}
