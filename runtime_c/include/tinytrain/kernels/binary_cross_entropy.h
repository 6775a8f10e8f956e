// SPDX-License-Identifier: Apache-2.0
// Sigmoid and binary cross-entropy in fixed point.
#ifndef TINYTRAIN_KERNELS_BINARY_CROSS_ENTROPY_H
#define TINYTRAIN_KERNELS_BINARY_CROSS_ENTROPY_H

#include "tinytrain/types.h"

// gradient = weight * (sigmoid(logit) - target), in units of 2^-15 times the power of two the factors leave out;
// result = {loss in 2^-16, logit > 0}. The label is 0 or 1 (the caller checks).
typedef struct tt_binary_cross_entropy_s32_args {
    const int32_t *logit;   // [1], in 2^-16
    const int32_t *label;   // [1]
    int16_t *gradient;      // [1]
    int32_t *result;        // [2]
    int32_t factor_0;       // weights of the classes 0 and 1, in 2^-30 of that power of two
    int32_t factor_1;
    int32_t target_label;   // in 2^-30; target_label + target_other = 2^30
    int32_t target_other;   // <= target_label
    int32_t loss_shift;     // 30 minus the exponent of that power of two
} tt_binary_cross_entropy_s32_args;
void tt_binary_cross_entropy_s32(const void *args);

#endif
