// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/host/mask_gradient.h"

void tt_mask_gradient_s16(const void *args) { tt_host_mask_gradient(args); }
