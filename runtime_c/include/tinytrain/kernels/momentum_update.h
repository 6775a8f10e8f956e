// SPDX-License-Identifier: Apache-2.0
// Gradient descent with momentum.
#ifndef TINYTRAIN_KERNELS_MOMENTUM_UPDATE_H
#define TINYTRAIN_KERNELS_MOMENTUM_UPDATE_H

#include "tinytrain/types.h"

// v = beta * v + g, parameter -= rate * v. The gradient's learning rate is that of one sample.
typedef struct tt_momentum_update_s16_args {
    tt_step step;
    int16_t *velocity;  // mantissas, one per element of the parameter
    int32_t *exponent;  // [1], of the velocity
    int32_t beta;       // in 2^-16, below 65536
} tt_momentum_update_s16_args;
void tt_momentum_update_s16(const void *args);

#endif
