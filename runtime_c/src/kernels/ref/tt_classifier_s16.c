// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/classifier.h"
#include "tinytrain/arithmetic.h"

// 256 products of an int16 weight within +-32512 and a difference of int8 fit 31 bits and a sign.
enum { CHUNK = 256 };

void tt_classifier_s16(const void *args) {
    const tt_classifier_s16_args *a = args;
    const int16_t *w = a->weights;
    for (int32_t n = 0; n < a->classes; n++) {
        int64_t total = a->bias[n];
        for (int32_t start = 0; start < a->inputs; start += CHUNK) {
            const int32_t end = tt_min(start + CHUNK, a->inputs);
            int32_t part = 0;
            for (int32_t i = start; i < end; i++) { part += (a->x[i] - a->x_zero_point) * *w++; }
            total += part;
        }
        const int64_t reduced = tt_rounding_shift(total, a->total_shift);
        a->y[n] = tt_saturate32(tt_rounding_shift(reduced * a->multiplier[n], 31 - a->shift[n] - a->total_shift));
    }
}
