// SPDX-License-Identifier: Apache-2.0
// What both cross-entropies share where targets are smoothed and classes weighted (docs/arithmetic.md, "Loss").
#ifndef TINYTRAIN_CROSS_ENTROPY_H
#define TINYTRAIN_CROSS_ENTROPY_H

#include "tinytrain/arithmetic.h"

// (probability - target) * factor: 2^-15, 2^-30 and 2^-30 give mantissas of 2^-15.
static inline int16_t tt_weighted_difference(int32_t probability, int32_t target, int32_t factor) {
    const int64_t difference = (int64_t)probability * 32768 - target;
    return (int16_t)tt_clamp64(tt_rounding_shift(difference * factor, 45), INT16_MIN, INT16_MAX);
}

// The loss of one sample in 2^-16, weighted. spread: the sum of target * distance in 2^-46.
static inline int32_t tt_weighted_loss(int64_t spread, int32_t log_total, int32_t factor, int32_t right) {
    const int64_t loss = tt_saturate32(tt_rounding_shift(spread, 30) + log_total);
    return tt_saturate32(tt_rounding_shift(loss * factor, right));
}

#endif
