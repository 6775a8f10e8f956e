// SPDX-License-Identifier: Apache-2.0
// tt_clamp_mask_s8 for hosts: comparisons of a vector of bytes are its mask.
#include <string.h>

#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/clamp_mask.h"
#include "tinytrain/vectors.h"

// The bits of `count` elements, at most 8.
static uint8_t bits_of(const tt_clamp_mask_s8_args *a, const int8_t *elements, int32_t count) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t y = elements[i];
        bits |= (y > a->clamp_low && y < a->clamp_high ? 1U : 0U) << i;
    }
    return (uint8_t)bits;
}

// As many as whole vectors have; returns how many elements.
static int32_t whole_vectors(const tt_clamp_mask_s8_args *a) {
    int32_t done = 0;
#if TT_AVX
    const __m256i low = _mm256_set1_epi8((char)a->clamp_low), high = _mm256_set1_epi8((char)a->clamp_high);
    for (; done + 32 <= a->size; done += 32) {
        const __m256i y = _mm256_loadu_si256((const __m256i *)(const void *)(a->y + done));
        const __m256i passes = _mm256_and_si256(_mm256_cmpgt_epi8(y, low), _mm256_cmpgt_epi8(high, y));
        const int32_t bits = _mm256_movemask_epi8(passes);
        memcpy(a->mask + done / 8, &bits, sizeof bits);
    }
#else
    (void)a;
#endif
    return done;
}

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    for (int32_t i = whole_vectors(a); i < a->size; i += 8) {
        a->mask[i / 8] = bits_of(a, a->y + i, tt_min(8, a->size - i));
    }
}
