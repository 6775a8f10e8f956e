// SPDX-License-Identifier: Apache-2.0
// What the Helium twins of gradient kernels share. Vectors hold four 32-bit or eight 16-bit lanes.
#ifndef TINYTRAIN_MVE_GRADIENT_H
#define TINYTRAIN_MVE_GRADIENT_H

#include <arm_mve.h>

#include "tinytrain/gradient.h"

// The argument of VQRSHL that rounds sums of 32 bits as tt_rounding_shift does: to the right by `right`, 0 from 33 on.
// To the left it saturates, and mantissas saturate before that.
static inline int32_t tt_mve_shift(int32_t right) { return tt_clamp(-right, -33, 31); }

// Exact sums of 32 bits as mantissas, in the low halves of the lanes; `largest` becomes the largest magnitude so far.
static inline int32x4_t tt_mve_to_mantissas(int32x4_t sums, int32_t shift, uint32x4_t *largest) {
    __asm__("vmaxa.s32 %q[largest], %q[sums]\n"  // in this order no copy of the sums is needed
            "vqrshl.s32 %q[sums], %[shift]\n"
            "vqmovnb.s32 %q[sums], %q[sums]\n"
            : [sums] "+w"(sums), [largest] "+w"(*largest)
            : [shift] "r"(shift));
    return sums;
}

#endif
