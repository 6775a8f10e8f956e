// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/apply_accumulated.h"
#include "tinytrain/update.h"

static int64_t delta_of(const tt_apply_accumulated_s32_args *a, uint32_t key, uint32_t index) {
    const int64_t total = a->accumulator[index];
    if (a->mode != TT_UPDATE_STOCHASTIC8 && a->mode != TT_UPDATE_BIAS_STOCHASTIC) {
        return tt_rounding_shift(total, a->right);
    }
    return (total + (int64_t)(tt_random_word(key, index) >> (32 - a->right))) >> a->right;
}

void tt_apply_accumulated_s32(const void *args) {
    const tt_apply_accumulated_s32_args *a = args;
    const tt_update update = {.parameter = a->parameter, .master = a->master, .mode = a->mode};
    const uint32_t key = tt_random_key(a->hyper, a->stream);
    for (uint32_t i = 0; i < (uint32_t)a->size; i++) {
        tt_apply_delta(&update, i, delta_of(a, key, i));
        a->accumulator[i] = 0;
    }
}
