// SPDX-License-Identifier: Apache-2.0
// tt_average_pool2d_gradient_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/gradients/average_pool2d_gradient.h"

void tt_average_pool2d_gradient_s8(const void *args) { tt_average_pool2d_gradient(args); }
