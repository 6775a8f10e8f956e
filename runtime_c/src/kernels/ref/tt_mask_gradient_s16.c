// SPDX-License-Identifier: Apache-2.0
// tt_mask_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/gradients/mask_gradient.h"

void tt_mask_gradient_s16(const void *args) { tt_mask_gradient(args); }
