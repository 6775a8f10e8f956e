// SPDX-License-Identifier: Apache-2.0
#define TT_VECTOR_LANES 4
#include "tinytrain/vectors/bias_update.h"

void tt_bias_update_s16(const void *args) { tt_bias_update(args); }
