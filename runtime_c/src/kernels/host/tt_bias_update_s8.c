// SPDX-License-Identifier: Apache-2.0
// tt_bias_update_s8: for gradients of 8-bit mantissas.
#define TT_GRADIENT_BITS 8
#include "tinytrain/vectors/bias_update.h"

void tt_bias_update_s8(const void *args) { tt_bias_update(args); }
