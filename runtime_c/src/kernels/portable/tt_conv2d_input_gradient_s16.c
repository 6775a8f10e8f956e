// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/portable/conv2d_input_gradient.h"

void tt_conv2d_input_gradient_s16(const void *args) { tt_portable_input_gradient(args); }
