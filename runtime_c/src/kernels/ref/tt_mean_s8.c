// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/mean.h"

void tt_mean_s8(const void *args) {
    const tt_mean_s8_args *k = args;
    int8_t *y = k->y;
    for (int32_t outer = 0; outer < k->outer; outer++) {
        for (int32_t inner = 0; inner < k->inner; inner++) {
            const int8_t *x = k->x + outer * k->count * k->inner + inner;
            int32_t sum = 0;
            for (int32_t i = 0; i < k->count; i++, x += k->inner) { sum += *x - k->x_zero_point; }
            const int32_t value = tt_requantize_double(sum, k->y_multiplier, k->y_shift) + k->y_zero_point;
            *y++ = (int8_t)tt_clamp(value, k->clamp_low, k->clamp_high);
        }
    }
}
