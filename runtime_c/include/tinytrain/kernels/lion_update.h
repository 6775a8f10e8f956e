// SPDX-License-Identifier: Apache-2.0
// Descent by the sign of a mix of gradient and momentum.
#ifndef TINYTRAIN_KERNELS_LION_UPDATE_H
#define TINYTRAIN_KERNELS_LION_UPDATE_H

#include "tinytrain/types.h"

// parameter -= rate * sign(beta1 * m + (1 - beta1) * g), then m = beta2 * m + (1 - beta2) * g.
typedef struct tt_lion_update_s8_args {
    tt_step step;
    int8_t *momentum;   // signed minifloats, one per element of the parameter
    int32_t *exponent;  // [1], of the momentum
    int32_t beta1, beta2;  // in 2^-16, below 65536
} tt_lion_update_s8_args;
void tt_lion_update_s8(const void *args);

#endif
