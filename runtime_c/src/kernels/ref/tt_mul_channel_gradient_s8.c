// SPDX-License-Identifier: Apache-2.0
// tt_mul_channel_gradient_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/gradients/mul_channel_gradient.h"

void tt_mul_channel_gradient_s8(const void *args) { tt_mul_channel_gradient(args); }
