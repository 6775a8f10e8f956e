// SPDX-License-Identifier: Apache-2.0
// Softmax and cross-entropy in fixed point.
#ifndef TINYTRAIN_KERNELS_SOFTMAX_CROSS_ENTROPY_H
#define TINYTRAIN_KERNELS_SOFTMAX_CROSS_ENTROPY_H

#include "tinytrain/types.h"

// gradient = softmax(logits) - one hot of the label, in 2^-15; result = {loss in 2^-16, index of the largest logit}.
// classes <= 65535; the label is within the classes (the caller checks).
typedef struct tt_softmax_cross_entropy_s32_args {
    const int32_t *logits;  // [classes], in 2^-16
    const int32_t *label;   // [1]
    int16_t *gradient;      // [classes]
    int32_t *result;        // [2]
    int32_t classes;
} tt_softmax_cross_entropy_s32_args;
void tt_softmax_cross_entropy_s32(const void *args);

// The same with smoothed targets and class weights: gradient = weight * (softmax(logits) - target), weight that of the
// label, in units of 2^-15 times the power of two the factors leave out.
typedef struct tt_softmax_cross_entropy_weighted_s32_args {
    const int32_t *logits;   // [classes], in 2^-16
    const int32_t *label;    // [1]
    const int32_t *factors;  // [classes], weights in 2^-30 of that power of two; or NULL: all are 2^30
    int16_t *gradient;       // [classes]
    int32_t *result;         // [2]
    int32_t classes;
    int32_t target_label;    // in 2^-30; target_label + (classes - 1) * target_other = 2^30
    int32_t target_other;    // <= target_label
    int32_t loss_shift;      // 30 minus the exponent of that power of two
} tt_softmax_cross_entropy_weighted_s32_args;
void tt_softmax_cross_entropy_weighted_s32(const void *args);

#endif
