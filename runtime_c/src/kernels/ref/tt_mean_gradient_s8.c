// SPDX-License-Identifier: Apache-2.0
#define TT_GRADIENT_BITS 8
#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mean.h"

void tt_mean_gradient_s8(const void *args) {
    const tt_mean_gradient_s8_args *k = args;
    const int32_t exponent = tt_exponent_of(k->gy_exponent, k->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(k->gx_exponent, exponent);
    const int8_t *gy = k->gy;
    uint64_t largest = 0;
    for (int32_t outer = 0; outer < k->outer; outer++, gy += k->inner) {
        for (int32_t inner = 0; inner < k->inner; inner++) {
            const int32_t product = gy[inner] * k->factor;
            int32_t index = outer * k->count * k->inner + inner;
            if (tt_magnitude(product) > largest) { largest = tt_magnitude(product); }
            for (int32_t i = 0; i < k->count; i++, index += k->inner) {
                k->gx[index] = tt_to_mantissa32(&rounding, product, index);
            }
        }
    }
    tt_exponent_end(k->gx_exponent, largest, exponent);
}
