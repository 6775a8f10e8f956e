// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16: half a byte of the mask picks masks of two words, four elements.
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/kernels/mask_gradient.h"

// The halves of two words that stay, for bits 0 and 1 and bits 2 and 3 of the index.
#define AFTER(bits_2_and_3) \
    {0, bits_2_and_3}, {0xFFFFU, bits_2_and_3}, {0xFFFF0000U, bits_2_and_3}, {0xFFFFFFFFU, bits_2_and_3}
static const uint32_t kept[16][2] = {AFTER(0), AFTER(0xFFFFU), AFTER(0xFFFF0000U), AFTER(0xFFFFFFFFU)};

static inline void four_elements(const uint32_t **from, uint32_t **to, uint32_t bits) {
    const uint32_t *masks = kept[bits & 15U];
    uint32_t first, second, keep_first, keep_second;
    tt_load_two(from, &first, &second);
    tt_load_two(&masks, &keep_first, &keep_second);
    tt_store_two(to, first & keep_first, second & keep_second);
}

void tt_mask_gradient_s16(const void *args) {
    const tt_mask_gradient_s16_args *a = args;
    const int16_t *gy = a->gy;
    int16_t *gx = a->gx;
    const uint8_t *mask = a->mask;
    const int aligned = (((uintptr_t)gy | (uintptr_t)gx) & 3U) == 0;
    const int32_t whole = aligned ? a->size & ~7 : 0;
    const uint32_t *from = (const uint32_t *)(const void *)gy;
    uint32_t *to = (uint32_t *)(void *)gx;
    for (const uint8_t *const end = mask + whole / 8; mask < end; mask++) {
        const uint32_t bits = *mask;
        four_elements(&from, &to, bits);
        four_elements(&from, &to, bits >> 4);
    }
    for (int32_t i = whole; i < a->size; i++) { gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0; }
}
