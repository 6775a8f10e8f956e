// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/mean.h"

void tt_mean_gradient_s16(const void *args) {
    const tt_mean_gradient_s16_args *k = args;
    const int16_t *gy = k->gy;
    int16_t *gx = k->gx;
    for (int32_t outer = 0; outer < k->outer; outer++, gy += k->inner) {
        for (int32_t i = 0; i < k->count; i++) {
            for (int32_t inner = 0; inner < k->inner; inner++) {
                *gx++ = (int16_t)((gy[inner] * k->factor + (1 << 14)) >> 15);
            }
        }
    }
}
