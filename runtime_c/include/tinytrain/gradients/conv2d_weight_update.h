// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update: one weight at a time.
#ifndef TINYTRAIN_GRADIENTS_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_GRADIENTS_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/update.h"
#include "tinytrain/weight_gradient.h"

static inline void tt_conv2d_weight_update(const tt_conv2d_weight_update_args *a) {
    const tt_gradient_source source = {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels};
    uint32_t index = 0;
    for (int32_t co = 0; co < a->co_count; co++) {
        const tt_rate rate = tt_rate_of_channel(&a->update, co);
        for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
            for (int32_t kx = 0; kx < a->window.kernel_width; kx++) {
                for (int32_t ci = 0; ci < a->x_channels; ci++) {
                    const int64_t sum = tt_weight_gradient(&source, a->co_start + co, ci, ky, kx);
                    tt_update_element(&a->update, &rate, index++, sum);
                }
            }
        }
    }
}

#endif
