// SPDX-License-Identifier: Apache-2.0
// Adam with two states of 8 bits.
#ifndef TINYTRAIN_KERNELS_ADAM_UPDATE_H
#define TINYTRAIN_KERNELS_ADAM_UPDATE_H

#include "tinytrain/types.h"

// Of a tensor: exponents of both states, and the powers of beta1 and beta2 so far, 2^30 = 1.0.
typedef struct tt_adam_state {
    int32_t first_exponent, second_exponent;
    int32_t power1, power2;
} tt_adam_state;

// m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g^2, parameter -= rate * m^ / sqrt(v^).
typedef struct tt_adam_update_s8_args {
    tt_step step;
    int8_t *first;         // m: signed minifloats, one per element of the parameter
    uint8_t *second;       // v: minifloats
    tt_adam_state *state;  // [1]
    int32_t beta1, beta2;  // in 2^-16, below 65536
} tt_adam_update_s8_args;
void tt_adam_update_s8(const void *args);

#endif
