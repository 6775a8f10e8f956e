// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/mul.h"
#include "tinytrain/arithmetic.h"

void tt_mul_s8(const void *args) {
    const tt_mul_s8_args *k = args;
    for (int32_t start = 0; start < k->size; start += k->b_size) {
        const int8_t *a = k->a + start;
        int8_t *y = k->y + start;
        for (int32_t i = 0; i < k->b_size; i++) {
            const int32_t product = (a[i] - k->a_zero_point) * (k->b[i] - k->b_zero_point);
            const int32_t value = tt_requantize_double(product, k->y_multiplier, k->y_shift) + k->y_zero_point;
            y[i] = (int8_t)tt_clamp(value, k->clamp_low, k->clamp_high);
        }
    }
}
