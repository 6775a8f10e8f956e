// SPDX-License-Identifier: Apache-2.0
// tt_gradient_add_s16: for gradients of 16-bit mantissas.
#include "tinytrain/gradients/gradient_add.h"

void tt_gradient_add_s16(const void *args) { tt_gradient_add(args); }
