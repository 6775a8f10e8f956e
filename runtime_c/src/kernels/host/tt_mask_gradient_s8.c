// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/host/mask_gradient.h"

void tt_mask_gradient_s8(const void *args) { tt_host_mask_gradient(args); }
