// SPDX-License-Identifier: Apache-2.0
#define TT_VECTOR_LANES 4
#include "tinytrain/vectors/depthwise_conv2d_weight_update.h"

void tt_depthwise_conv2d_weight_update_s16(const void *args) { tt_depthwise_conv2d_weight_update(args); }
