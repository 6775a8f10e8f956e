// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/apply_accumulated.h"
#include "tinytrain/update.h"

static int64_t delta_of(const tt_apply_accumulated_s32_args *a, uint32_t key, uint32_t index) {
    const int64_t total = a->accumulator[index];
    if (!tt_rounds_at_random(a->mode)) { return tt_rounding_shift(total, a->right); }
    return (total + (int64_t)(tt_random_word(key, index) >> (32 - a->right))) >> a->right;
}

void tt_apply_accumulated_s32(const void *args) {
    const tt_apply_accumulated_s32_args *a = args;
    const tt_update update = {.parameter = a->parameter, .master = a->master, .hyper = a->hyper, .stream = a->stream,
                              .mode = a->mode, .decay_multiplier = a->decay_multiplier, .decay_shift = a->decay_shift};
    const tt_rate none = {0};
    const tt_rate rate = tt_completed(none, &update);
    for (uint32_t i = 0; i < (uint32_t)a->size; i++) {
        const int64_t delta = delta_of(a, rate.key, i);
        tt_apply_delta(&update, i, a->decay_multiplier != 0 ? tt_decayed_delta(&update, &rate, i, delta) : delta);
        a->accumulator[i] = 0;
    }
}
