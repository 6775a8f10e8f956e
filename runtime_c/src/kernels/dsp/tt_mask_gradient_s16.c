// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16: half a byte of the mask picks masks of two words, four elements. In place there is nothing
// to do where a word of the mask is all ones.
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/kernels/mask_gradient.h"

// The halves of two words that stay, for bits 0 and 1 and bits 2 and 3 of the index.
#define AFTER(bits_2_and_3) \
    {0, bits_2_and_3}, {0xFFFFU, bits_2_and_3}, {0xFFFF0000U, bits_2_and_3}, {0xFFFFFFFFU, bits_2_and_3}
static const uint32_t kept[16][2] = {AFTER(0), AFTER(0xFFFFU), AFTER(0xFFFF0000U), AFTER(0xFFFFFFFFU)};

enum { TOGETHER = 32 };  // elements: a word of the mask

// Four bits from `at` on, a constant. gcc would look all of a word's bits up before it uses them, and run out of
// registers.
#define FOUR_ELEMENTS(at)                                                    \
    __asm__ volatile("ubfx %[k], %[bits], #" #at ", #4\n\t"                  \
                     "add  %[k], %[kept], %[k], lsl #3\n\t"                  \
                     "ldrd %[g], %[h], [%[from]], #8\n\t"                    \
                     "ldrd %[k], %[l], [%[k]]\n\t"                           \
                     "and  %[g], %[g], %[k]\n\t"                             \
                     "and  %[h], %[h], %[l]\n\t"                             \
                     "strd %[g], %[h], [%[to]], #8\n\t"                      \
                     : [from] "+r"(from), [to] "+r"(to), [k] "=&r"(k), [l] "=&r"(l), [g] "=&r"(g), [h] "=&r"(h) \
                     : [bits] "r"(bits), [kept] "r"(kept)                    \
                     : "memory");

void tt_mask_gradient_s16(const void *args) {
    const tt_mask_gradient_s16_args *a = args;
    const int16_t *gy = a->gy;
    int16_t *gx = a->gx;
    const uint8_t *mask = a->mask;
    const int aligned = (((uintptr_t)gy | (uintptr_t)gx) & 3U) == 0;
    const int32_t whole = aligned ? a->size & -TOGETHER : 0;
    const uint32_t *from = (const uint32_t *)(const void *)gy, *const end = from + whole / 2;
    uint32_t *to = (uint32_t *)(void *)gx;
    for (; from < end; mask += TOGETHER / 8) {
        const uint32_t bits = tt_load_bytes(mask);
        if (bits == UINT32_MAX && gx == gy) {  // common where only int8 itself clamps
            from += TOGETHER / 2, to += TOGETHER / 2;
            continue;
        }
        uint32_t k, l, g, h;
        FOUR_ELEMENTS(0) FOUR_ELEMENTS(4) FOUR_ELEMENTS(8) FOUR_ELEMENTS(12)
        FOUR_ELEMENTS(16) FOUR_ELEMENTS(20) FOUR_ELEMENTS(24) FOUR_ELEMENTS(28)
    }
    for (int32_t i = whole; i < a->size; i++) { gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0; }
}
