// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update_s16: four channels of a pixel, one by one.
#include "tinytrain/portable/depthwise_conv2d_weight_update.h"

void tt_depthwise_conv2d_weight_update_s16(const void *args) { tt_update_depthwise_weights(args); }
