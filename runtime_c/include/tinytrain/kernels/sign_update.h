// SPDX-License-Identifier: Apache-2.0
// Descent by the sign of the gradient.
#ifndef TINYTRAIN_KERNELS_SIGN_UPDATE_H
#define TINYTRAIN_KERNELS_SIGN_UPDATE_H

#include "tinytrain/types.h"

// parameter -= rate * sign(g). The learning rate is that of the update.
typedef struct tt_sign_update_s32_args {
    tt_step step;
} tt_sign_update_s32_args;
void tt_sign_update_s32(const void *args);

#endif
