// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/requantize.h"
#include "tinytrain/arithmetic.h"

void tt_requantize_s8(const void *args) {
    const tt_requantize_s8_args *k = args;
    for (int32_t i = 0; i < k->size; i++) {
        const int32_t value = tt_requantize_double(k->x[i] - k->x_zero_point, k->y_multiplier, k->y_shift);
        k->y[i] = (int8_t)tt_clamp(value + k->y_zero_point, k->clamp_low, k->clamp_high);
    }
}
