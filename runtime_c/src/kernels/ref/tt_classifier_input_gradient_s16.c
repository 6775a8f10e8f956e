// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/classifier.h"
#include "tinytrain/arithmetic.h"

void tt_classifier_input_gradient_s16(const void *args) {
    const tt_classifier_input_gradient_s16_args *a = args;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const int32_t right = tt_exponent_begin(a->gx_exponent) - sums_exponent;
    uint64_t largest = 0;
    for (int32_t i = 0; i < a->inputs; i++) {
        int64_t sum = 0;
        for (int32_t n = 0; n < a->classes; n++) {
            const int32_t scaled = (a->gy[n] * a->factors[n] + (1 << 14)) >> 15;
            sum += scaled * a->weights[n * a->inputs + i];
        }
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        a->gx[i] = tt_mantissa16(sum, right);
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}
