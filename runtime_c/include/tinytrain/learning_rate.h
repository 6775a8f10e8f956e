// SPDX-License-Identifier: Apache-2.0
// Learning rates as numbers of 24 significant bits: exactly the floats.
#ifndef TINYTRAIN_LEARNING_RATE_H
#define TINYTRAIN_LEARNING_RATE_H

#include "tinytrain/arithmetic.h"

// mantissa * 2^(exponent - 31), mantissa 0 or in [2^30, 2^31).
typedef struct tt_learning_rate {
    uint32_t mantissa;
    int32_t exponent;
} tt_learning_rate;

// Exactly the float; TT_BAD_ARGUMENT for a negative, infinite or NaN one.
tt_status tt_rate_of_float(float value, tt_learning_rate *rate);

// value * 2^(exponent - 31), rounded half up to 24 significant bits; value is 0 or at least 2^24, and below 2^63.
static inline tt_learning_rate tt_rounded_rate(uint64_t value, int32_t exponent) {
    tt_learning_rate rate = {0, 0};
    if (value == 0) { return rate; }
    const int32_t drop = tt_bit_length(value) - 24;
    const uint32_t mantissa = drop > 0 ? (uint32_t)((value + ((uint64_t)1 << (drop - 1))) >> drop) : (uint32_t)value;
    const int32_t carry = (int32_t)(mantissa >> 24);
    rate.mantissa = (mantissa >> carry) << 7;
    rate.exponent = exponent + drop + carry - 7;
    return rate;
}

// The share of each of `samples` (2 to 65535).
static inline tt_learning_rate tt_divided_rate(tt_learning_rate rate, uint32_t samples) {
    return tt_rounded_rate(((uint64_t)rate.mantissa << 32) / samples, rate.exponent - 32);
}

#endif
