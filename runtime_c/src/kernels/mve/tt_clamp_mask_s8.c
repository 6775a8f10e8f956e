// SPDX-License-Identifier: Apache-2.0
// tt_clamp_mask_s8, Helium: the predicate of sixteen bytes is sixteen bits of the mask.
#include <arm_mve.h>

#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/clamp_mask.h"

enum { SIXTEEN = 16 };

// lowest <= y <= highest, sixteen at a time. VPR changes, which no clobber can say: so this stays a function of its
// own.
TT_INNER_LOOP static void mask_sixteens(const int8_t *y, uint8_t *mask, int32_t count, int8x16_t lowest,
                                        int8x16_t highest) {
    uint32_t bits;
    int8x16_t values;
    __asm__ volatile(
        "wls lr, %[count], 2f\n"
        "1:\n"
        "vldrb.8 %q[values], [%[y]], #16\n"
        "vpt.s8 ge, %q[values], %q[lowest]\n"
        "vcmpt.s8 ge, %q[highest], %q[values]\n"
        "vmrs %[bits], p0\n"
        "strh %[bits], [%[mask]], #2\n"
        "le lr, 1b\n"
        "2:\n"
        : [y] "+r"(y), [mask] "+r"(mask), [bits] "=&r"(bits), [values] "=&w"(values)
        : [count] "r"(count), [lowest] "w"(lowest), [highest] "w"(highest)
        : "lr", "memory");
}

void tt_clamp_mask_s8(const void *args) {
    const tt_clamp_mask_s8_args *a = args;
    int32_t done = 0;
    if (a->clamp_high - a->clamp_low > 1) {  // else nothing passes, and the bounds may not fit bytes
        const int32_t sixteens = a->size / SIXTEEN;
        mask_sixteens(a->y, a->mask, sixteens, vdupq_n_s8((int8_t)(a->clamp_low + 1)),
                      vdupq_n_s8((int8_t)(a->clamp_high - 1)));
        done = sixteens * SIXTEEN;
    }
    for (; done < a->size; done += 8) {
        uint32_t bits = 0;
        for (int32_t i = 0; i < tt_min(8, a->size - done); i++) {
            const int32_t y = a->y[done + i];
            bits |= (y > a->clamp_low && y < a->clamp_high ? 1U : 0U) << i;
        }
        a->mask[done / 8] = (uint8_t)bits;
    }
}
