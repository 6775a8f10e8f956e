// SPDX-License-Identifier: Apache-2.0
// tt_gradient_add_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/gradients/gradient_add.h"

void tt_gradient_add_s8(const void *args) { tt_gradient_add(args); }
