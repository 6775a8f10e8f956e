// SPDX-License-Identifier: Apache-2.0
// The trained last layer: int8 inputs, int16 weights, int32 logits of 2^-16.
#ifndef TINYTRAIN_KERNELS_CLASSIFIER_H
#define TINYTRAIN_KERNELS_CLASSIFIER_H

#include "tinytrain/types.h"

// y[n] = (sum of w[n, i] (x[i] - zx) + b[n]) * multiplier[n] * 2^(shift[n] - 31). Sums are exact in int64.
typedef struct tt_classifier_s16_args {
    const int8_t *x;            // [inputs]
    const int32_t *bias;        // [classes]
    const int16_t *weights;     // [classes, inputs], within +-32512
    int32_t *y;                 // [classes]
    int32_t inputs, classes;
    int32_t x_zero_point;
    const int32_t *multiplier;  // [classes], in [2^30, 2^31)
    const int16_t *shift;       // [classes]
    int32_t total_shift;        // brings any sum into 32 bits
} tt_classifier_s16_args;
void tt_classifier_s16(const void *args);

// gx[i] = sum over n of w[n, i] * (gy[n] * weight scale), as mantissas under a delayed exponent.
typedef struct tt_classifier_input_gradient_args {
    const int16_t *gy;       // [classes], of the loss
    const int16_t *weights;  // [classes, inputs]
    void *gx;                // mantissas [inputs]
    int32_t inputs, classes;
    const int32_t *factors;  // [classes], relative weight scales, 0 to 32768
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;
    tt_exponent *gx_exponent;
} tt_classifier_input_gradient_args;
typedef tt_classifier_input_gradient_args tt_classifier_input_gradient_s16_args;
typedef tt_classifier_input_gradient_args tt_classifier_input_gradient_s8_args;
void tt_classifier_input_gradient_s16(const void *args);
void tt_classifier_input_gradient_s8(const void *args);

#endif
