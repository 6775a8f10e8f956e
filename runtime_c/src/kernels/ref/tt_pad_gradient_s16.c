// SPDX-License-Identifier: Apache-2.0
// tt_pad_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/gradients/pad_gradient.h"

void tt_pad_gradient_s16(const void *args) { tt_pad_gradient(args); }
