// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/portable/depthwise_conv2d_input_gradient.h"

void tt_depthwise_conv2d_input_gradient_s16(const void *args) { tt_portable_depthwise_input_gradient(args); }
