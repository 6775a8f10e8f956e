// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/portable/depthwise_conv2d_input_gradient.h"

void tt_depthwise_conv2d_input_gradient_s16(const void *args) {
    const tt_depthwise_conv2d_input_gradient_args *a = args;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    tt_portable_depthwise_input_gradient(a, &rounding, sums_exponent);
}
