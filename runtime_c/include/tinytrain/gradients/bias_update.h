// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_BIAS_UPDATE_H
#define TINYTRAIN_GRADIENTS_BIAS_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/gradient.h"
#include "tinytrain/kernels/bias_update.h"
#include "tinytrain/update.h"

// The exact gradient of the bias of channel c.
static inline int64_t tt_bias_gradient(const tt_bias_update_args *a, int32_t c) {
    const tt_mantissa *gy = (const tt_mantissa *)a->gy + c;
    int64_t sum = 0;
    for (int32_t p = 0; p < a->pixels; p++, gy += a->channels) { sum += *gy; }
    return sum;
}

static inline void tt_bias_update(const tt_bias_update_args *a) {
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t c = 0; c < a->channels; c++) {
        const tt_rate rate = tt_rate_of_channel(&a->update, c);
        tt_update_element(&a->update, &rate, (uint32_t)c, tt_clipped(&clipping, tt_bias_gradient(a, c)));
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
