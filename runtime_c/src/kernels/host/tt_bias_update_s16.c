// SPDX-License-Identifier: Apache-2.0
// tt_bias_update_s16: for gradients of 16-bit mantissas.
#include "tinytrain/vectors/bias_update.h"

void tt_bias_update_s16(const void *args) { tt_bias_update(args); }
