// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update_s16: for gradients of 16-bit mantissas.
#include "tinytrain/portable/conv2d_weight_update.h"

void tt_conv2d_weight_update_s16(const void *args) { tt_portable_weight_update(args); }
