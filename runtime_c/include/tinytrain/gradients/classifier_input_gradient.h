// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_CLASSIFIER_INPUT_GRADIENT_H
#define TINYTRAIN_GRADIENTS_CLASSIFIER_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/classifier.h"

static inline void tt_classifier_input_gradient(const tt_classifier_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    tt_mantissa *gx = a->gx;
    for (int32_t i = 0; i < a->inputs; i++) {
        int64_t sum = 0;
        for (int32_t n = 0; n < a->classes; n++) {
            const int32_t scaled = (a->gy[n] * a->factors[n] + (1 << 14)) >> 15;
            sum += scaled * a->weights[n * a->inputs + i];
        }
        const uint64_t magnitude = tt_magnitude(sum);
        if (magnitude > largest) { largest = magnitude; }
        gx[i] = tt_to_mantissa(&rounding, sum, i);
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

#endif
