// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_GRADIENTS_DEPTHWISE_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/update.h"
#include "tinytrain/weight_gradient.h"

static inline void tt_depthwise_conv2d_weight_update(const tt_depthwise_conv2d_weight_update_args *a) {
    const tt_gradient_source source = {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels};
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t c = 0; c < a->count; c++) {
        const int32_t ci = (a->first_position + c) / a->channel_multiplier;
        const tt_rate rate = tt_rate_of_channel(&a->update, c);
        int32_t index = c;
        for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
            for (int32_t kx = 0; kx < a->window.kernel_width; kx++, index += a->count) {
                const tt_meeting meeting = tt_meeting_of(&a->window, ky, kx);
                const int64_t sum = tt_weight_gradient(&source, &meeting, ci, a->start + c);
                tt_update_element(&a->update, &rate, (uint32_t)index, tt_clipped(&clipping, sum));
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
