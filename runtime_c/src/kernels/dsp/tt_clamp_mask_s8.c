// SPDX-License-Identifier: Apache-2.0
// tt_clamp_mask_s8: four elements are compared at once; those that pass leave their bit, and bytes are added up.
#include "tinytrain/kernels/clamp_mask.h"
#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

// The bytes of `bits` whose element y lies above lowest by no more than range, all by bytes; 0 for the others.
static inline uint32_t passing(uint32_t y, uint32_t lowest, uint32_t range, uint32_t bits) {
    uint32_t passed;
    __asm__("usub8 %0, %1, %2\n\t"
            "usub8 %0, %3, %0\n\t"
            "sel %0, %4, %5"
            : "=&r"(passed)
            : "r"(y), "r"(lowest), "r"(range), "r"(bits), "r"(0));
    return passed;
}

static inline uint8_t eight_bits(const int8_t *y, uint32_t lowest, uint32_t range) {
    const uint32_t first = passing(tt_load_bytes(y), lowest, range, 0x08040201U);
    const uint32_t second = passing(tt_load_bytes(y + 4), lowest, range, 0x80402010U);
    return (uint8_t)__usada8(second, 0, __usad8(first, 0));
}

static inline uint32_t bytes_of(int32_t value) { return ((uint32_t)value & 0xFFU) * 0x01010101U; }

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    const int8_t *y = a->y;
    uint8_t *mask = a->mask;
    int32_t left = a->size;
    if (a->clamp_high - a->clamp_low > 1) {  // else nothing passes, and the bounds may not fit bytes
        const uint32_t lowest = bytes_of(a->clamp_low + 1), range = bytes_of(a->clamp_high - a->clamp_low - 2);
        for (; left >= 16; left -= 16, y += 16, mask += 2) {
            mask[0] = eight_bits(y, lowest, range);
            mask[1] = eight_bits(y + 8, lowest, range);
        }
    }
    for (; left > 0; left -= 8, y += 8) {
        uint32_t bits = 0;
        for (int32_t i = 0; i < tt_min(8, left); i++) {
            bits |= (y[i] > a->clamp_low && y[i] < a->clamp_high ? 1U : 0U) << i;
        }
        *mask++ = (uint8_t)bits;
    }
}
