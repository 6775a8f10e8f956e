// SPDX-License-Identifier: Apache-2.0
#ifndef TINYTRAIN_GRADIENTS_BIAS_UPDATE_H
#define TINYTRAIN_GRADIENTS_BIAS_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/gradient.h"
#include "tinytrain/kernels/bias_update.h"
#include "tinytrain/update.h"

// 65536 mantissas of 16 bits fit 31 bits and a sign.
enum { CHUNK = 65535 };

static inline void tt_bias_update(const tt_bias_update_args *a) {
    const tt_mantissa *first = a->gy;
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t c = 0; c < a->channels; c++) {
        const tt_rate rate = tt_rate_of_channel(&a->update, c);
        const tt_mantissa *gy = first + c;
        int64_t total = 0;
        for (int32_t start = 0; start < a->pixels; start += CHUNK) {
            const int32_t end = tt_min(start + CHUNK, a->pixels);
            int32_t part = 0;
            for (int32_t p = start; p < end; p++, gy += a->channels) { part += *gy; }
            total += part;
        }
        tt_update_element(&a->update, &rate, (uint32_t)c, tt_clipped(&clipping, total));
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
