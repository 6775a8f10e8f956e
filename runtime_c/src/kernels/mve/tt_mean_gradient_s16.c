// SPDX-License-Identifier: Apache-2.0
// tt_mean_gradient_s16, Helium: four elements are scaled once and stored `count` times.
#include <arm_mve.h>

#include "tinytrain/kernels/mean.h"

void tt_mean_gradient_s16(const void *args) {
    const tt_mean_gradient_s16_args *k = args;
    const int16_t *gy = k->gy;
    int16_t *gx = k->gx;
    for (int32_t outer = 0; outer < k->outer; outer++, gy += k->inner, gx += k->count * k->inner) {
        for (int32_t inner = 0; inner < k->inner; inner += 4) {
            const mve_pred16_t some = vctp32q((uint32_t)(k->inner - inner));
            const int32x4_t scaled = vrshrq_n_s32(vmulq_n_s32(vldrhq_z_s32(gy + inner, some), k->factor), 15);
            int16_t *to = gx + inner;
            for (int32_t i = 0; i < k->count; i++, to += k->inner) { vstrhq_p_s32(to, scaled, some); }
        }
    }
}
