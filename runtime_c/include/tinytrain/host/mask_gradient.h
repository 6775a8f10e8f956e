// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient for hosts: where the processor has masks, 32 elements at a time.
#ifndef TINYTRAIN_HOST_MASK_GRADIENT_H
#define TINYTRAIN_HOST_MASK_GRADIENT_H

#include "tinytrain/gradients/mask_gradient.h"
#include "tinytrain/vectors.h"

// As many as whole vectors have; returns how many elements.
static inline int32_t tt_mask_vectors(const tt_mask_gradient_args *a) {
    int32_t done = 0;
#if TT_AVX == 512
    const tt_mantissa *gy = a->gy;
    tt_mantissa *gx = a->gx;
    for (; done + 32 <= a->size; done += 32) {
        __mmask32 bits;
        memcpy(&bits, a->mask + done / 8, sizeof bits);
#if TT_GRADIENT_BITS == 16
        _mm512_storeu_si512(gx + done, _mm512_maskz_loadu_epi16(bits, gy + done));
#else
        _mm256_storeu_si256((__m256i *)(void *)(gx + done), _mm256_maskz_loadu_epi8(bits, gy + done));
#endif
    }
#endif
    (void)a;
    return done;
}

static inline void tt_host_mask_gradient(const tt_mask_gradient_args *a) {
    const int32_t done = tt_mask_vectors(a);
    const tt_mask_gradient_args rest = {(const tt_mantissa *)a->gy + done, a->mask + done / 8,
                                        (tt_mantissa *)a->gx + done, a->size - done};
    tt_mask_gradient(&rest);
}

#endif
