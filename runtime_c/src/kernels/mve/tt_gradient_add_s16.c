// SPDX-License-Identifier: Apache-2.0
// tt_gradient_add_s16, Helium. Where the exponents lie close together the sums fit 32 bits in units of the smaller one,
// and are exact; else the reference's guard bits are needed.
#include "tinytrain/gradients/gradient_add.h"
#include "tinytrain/mve_gradient.h"

enum { MOST_APART = 15 };

void tt_gradient_add_s16(const void *args) {
    const tt_gradient_add_args *a = args;
    const int32_t a_exponent = tt_exponent_of(a->a_exponent, a->a_exponent_offset);
    const int32_t b_exponent = tt_exponent_of(a->b_exponent, a->b_exponent_offset);
    const int32_t apart = a_exponent > b_exponent ? a_exponent - b_exponent : b_exponent - a_exponent;
    if (apart > MOST_APART) {
        tt_gradient_add(a);
        return;
    }
    const int16_t *coarse = a_exponent > b_exponent ? a->a : a->b, *fine = a_exponent > b_exponent ? a->b : a->a;
    const int32_t unit = tt_min(a_exponent, b_exponent);
    const tt_rounding rounding = tt_gradient_begin(a->y_exponent, unit);
    const int32_t shift = tt_mve_shift(rounding.right), size = a->size;
    int16_t *y = a->y;
    uint32x4_t largest = vdupq_n_u32(0);
    for (int32_t i = 0; i < size; i += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)(size - i));
        const int32x4_t low = vldrhq_z_s32(fine + i, some), high = vldrhq_z_s32(coarse + i, some);
        const int32x4_t sums = vmlaq_n_s32(low, high, 1 << apart);
        vstrhq_p_s32(y + i, tt_mve_to_mantissas(sums, shift, &largest), some);
    }
    tt_exponent_end(a->y_exponent, vmaxvq_u32(0, largest), unit);
}
