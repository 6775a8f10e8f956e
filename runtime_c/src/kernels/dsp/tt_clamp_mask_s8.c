// SPDX-License-Identifier: Apache-2.0
// tt_clamp_mask_s8: eight elements, four to a word.
#include "tinytrain/kernels/clamp_mask.h"
#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

// Bytes of a word between the bytes of two others, both included, become `bit`, others 0.
static inline uint32_t between(uint32_t bytes, uint32_t low, uint32_t high, uint32_t bit) {
    uint32_t found, none = 0;
    __asm__("ssub8 %0, %1, %2\n\t"
            "sel %0, %4, %5\n\t"
            "ssub8 %1, %3, %1\n\t"
            "sel %0, %0, %5"
            : "=&r"(found), "+r"(bytes)
            : "r"(low), "r"(high), "r"(bit), "r"(none));
    return found;
}

// Bits 0 and 4 of each byte, in its order, become the highest four bits of each half of the result's highest byte.
static inline uint8_t gathered(uint32_t bytes) { return (uint8_t)(bytes * 0x01020408U >> 24); }

static uint8_t bits_of(const tt_clamp_mask_s8_args *a, const int8_t *elements, int32_t count) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < count; i++) {
        bits |= (elements[i] > a->clamp_low && elements[i] < a->clamp_high ? 1U : 0U) << i;
    }
    return (uint8_t)bits;
}

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    const int32_t lowest = a->clamp_low + 1, highest = a->clamp_high - 1;
    const uint32_t low = (uint32_t)(lowest & 0xFF) * 0x01010101U, high = (uint32_t)(highest & 0xFF) * 0x01010101U;
    const int8_t *y = a->y, *end = y + a->size;
    uint8_t *mask = a->mask;
    if (lowest >= INT8_MIN && lowest <= INT8_MAX && highest >= INT8_MIN && highest <= INT8_MAX) {
        for (; end - y >= 8; y += 8) {
            const uint32_t first = between(tt_load_bytes(y), low, high, 0x01010101U);
            const uint32_t second = between(tt_load_bytes(y + 4), low, high, 0x10101010U);
            *mask++ = gathered(first | second);
        }
    }
    for (; y < end; y += 8) { *mask++ = bits_of(a, y, tt_min(8, (int32_t)(end - y))); }
}
