// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16, Helium: sixteen mask bits are the predicate of sixteen bytes, so low and high bytes of sixteen
// mantissas are taken apart, masked and put together.
#include <arm_mve.h>

#include "tinytrain/kernels/mask_gradient.h"

enum { SIXTEEN = 16 };

static void mask_sixteens(const int16_t *gy, const uint8_t *mask, int16_t *gx, int32_t count) {
    const int8x16_t zero = vdupq_n_s8(0);
    uint32_t bits;
    if (count == 0) { return; }
    __asm__ volatile(
        "dls lr, %[count]\n"
        "1:\n"
        "ldrh %[bits], [%[mask]], #2\n"
        "vld20.8 {q0, q1}, [%[gy]]\n"
        "vld21.8 {q0, q1}, [%[gy]]!\n"
        "vmsr p0, %[bits]\n"
        "vpsel q0, q0, %q[zero]\n"
        "vpsel q1, q1, %q[zero]\n"
        "vst20.8 {q0, q1}, [%[gx]]\n"
        "vst21.8 {q0, q1}, [%[gx]]!\n"
        "le lr, 1b\n"
        : [gy] "+r"(gy), [mask] "+r"(mask), [gx] "+r"(gx), [bits] "=&r"(bits)
        : [count] "r"(count), [zero] "w"(zero)
        : "d0", "d1", "d2", "d3", "lr", "memory");
}

void tt_mask_gradient_s16(const void *args) {
    const tt_mask_gradient_args *a = args;
    const int16_t *gy = a->gy;
    int16_t *gx = a->gx;
    mask_sixteens(gy, a->mask, gx, a->size / SIXTEEN);
    for (int32_t i = a->size - a->size % SIXTEEN; i < a->size; i++) {
        gx[i] = (a->mask[i >> 3] >> (i & 7)) & 1 ? gy[i] : 0;
    }
}
