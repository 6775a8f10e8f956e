// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/gradient.h"
#include "tinytrain/kernels/mean_squared_error.h"

static int64_t target_of(const tt_mean_squared_error_s32_args *a, int32_t n) {
    if (a->target != 0) { return a->target[n]; }
    const int64_t product = (int64_t)(a->sample[n] - a->sample_zero_point) * a->sample_multiplier;
    return tt_saturate32(tt_rounding_shift(product, 31 - a->sample_shift));
}

// |y - target| < 2^32, so its product with the factor is below 2^63, its square below 2^64, and the sum of 65535
// squares of 2^-16 below 2^64.
void tt_mean_squared_error_s32(const void *args) {
    const tt_mean_squared_error_s32_args *a = args;
    const int32_t exponent = a->factor_shift - 31 - 16;
    const tt_rounding rounding = tt_gradient_begin(a->gradient_exponent, exponent);
    const uint64_t count = (uint64_t)a->count;
    uint64_t largest = 0, sum = 0;
    for (int32_t n = 0; n < a->count; n++) {
        const int64_t difference = a->y[n] - target_of(a, n);
        const uint64_t magnitude = tt_magnitude(difference);
        if (magnitude > largest) { largest = magnitude; }
        sum += (magnitude * magnitude + (1U << 15)) >> 16;
        a->gradient[n] = tt_to_mantissa(&rounding, difference * a->factor_multiplier, n);
    }
    tt_exponent_end(a->gradient_exponent, largest * (uint64_t)a->factor_multiplier, exponent);
    const uint64_t mean = (sum + count / 2) / count;
    a->result[0] = mean > INT32_MAX ? INT32_MAX : (int32_t)mean;
    a->result[1] = 0;
}
