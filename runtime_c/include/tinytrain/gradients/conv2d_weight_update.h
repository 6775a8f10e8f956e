// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_GRADIENTS_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/update.h"
#include "tinytrain/weight_gradient.h"

static inline void tt_conv2d_weight_update(const tt_conv2d_weight_update_args *a) {
    const tt_gradient_source source = {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels};
    tt_clipping clipping = tt_clip_begin(&a->update);
    uint32_t index = 0;
    for (int32_t co = 0; co < a->co_count; co++) {
        const tt_rate rate = tt_rate_of_channel(&a->update, co);
        for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
            for (int32_t kx = 0; kx < a->window.kernel_width; kx++) {
                const tt_meeting meeting = tt_meeting_of(&a->window, ky, kx);
                for (int32_t ci = 0; ci < a->x_channels; ci++, index++) {
                    const int64_t sum = tt_weight_gradient(&source, &meeting, ci, a->co_start + co);
                    tt_update_element(&a->update, &rate, index, tt_clipped(&clipping, sum));
                }
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
