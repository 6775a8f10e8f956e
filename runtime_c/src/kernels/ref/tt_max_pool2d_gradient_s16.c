// SPDX-License-Identifier: Apache-2.0
// tt_max_pool2d_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/gradients/max_pool2d_gradient.h"

void tt_max_pool2d_gradient_s16(const void *args) { tt_max_pool2d_gradient(args); }
