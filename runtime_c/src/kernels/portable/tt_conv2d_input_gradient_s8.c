// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/portable/conv2d_input_gradient.h"

void tt_conv2d_input_gradient_s8(const void *args) { tt_portable_input_gradient(args); }
