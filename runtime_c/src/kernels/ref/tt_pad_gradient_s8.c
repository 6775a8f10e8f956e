// SPDX-License-Identifier: Apache-2.0
// tt_pad_gradient_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/gradients/pad_gradient.h"

void tt_pad_gradient_s8(const void *args) { tt_pad_gradient(args); }
