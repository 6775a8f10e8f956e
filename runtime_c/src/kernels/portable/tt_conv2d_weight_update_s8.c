// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/portable/conv2d_weight_update.h"

void tt_conv2d_weight_update_s8(const void *args) { tt_portable_weight_update(args); }
