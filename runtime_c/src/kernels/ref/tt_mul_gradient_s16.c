// SPDX-License-Identifier: Apache-2.0
// tt_mul_gradient_s16: for gradients of 16-bit mantissas.
#include "tinytrain/gradients/mul_gradient.h"

void tt_mul_gradient_s16(const void *args) { tt_mul_gradient(args); }
