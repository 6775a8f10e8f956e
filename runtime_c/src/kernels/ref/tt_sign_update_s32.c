// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/sign_update.h"
#include "tinytrain/optimizer.h"

void tt_sign_update_s32(const void *args) {
    const tt_sign_update_s32_args *a = args;
    const tt_step *s = &a->step;
    const tt_update update = tt_update_of_step(s);
    uint32_t index = 0;
    for (int32_t o = 0; o < s->outer; o++) {
        for (int32_t c = 0; c < s->channels; c++) {
            const tt_rate rate = tt_step_rate(&update, s->hyper->update_mantissa, s->hyper->update_exponent, c);
            for (int32_t k = 0; k < s->inner; k++, index++) {
                const int32_t gradient = s->gradient[index];
                tt_step_element(s, &update, &rate, index, (gradient > 0) - (gradient < 0));
            }
        }
    }
}
