// SPDX-License-Identifier: Apache-2.0
// tt_momentum_update_s16: two passes, the first finds the exponent that fits every new velocity.
#include "tinytrain/kernels/momentum_update.h"
#include "tinytrain/optimizer.h"

static uint64_t largest_velocity(const tt_momentum_update_s16_args *a, const tt_mix *mix) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < tt_step_size(&a->step); i++) {
        const uint64_t magnitude = tt_magnitude(tt_mixed(mix, a->velocity[i], a->step.gradient[i]));
        if (magnitude > largest) { largest = magnitude; }
    }
    return largest;
}

void tt_momentum_update_s16(const void *args) {
    const tt_momentum_update_s16_args *a = args;
    const tt_step *s = &a->step;
    const tt_update update = tt_update_of_step(s);
    const tt_mix mix = tt_mix_of(a->exponent[0], a->beta, tt_level_gradient(s, 31), 65536);
    const int32_t shift = tt_state_shift(largest_velocity(a, &mix), mix.unit, 15);
    const uint32_t key = tt_key_of_part(s->hyper, s->stream, TT_PART_FIRST_STATE);
    a->exponent[0] = mix.unit + shift;
    uint32_t index = 0;
    for (int32_t o = 0; o < s->outer; o++) {
        for (int32_t c = 0; c < s->channels; c++) {
            const tt_rate rate = tt_step_rate(&update, s->hyper->mantissa, s->hyper->exponent + a->exponent[0], c);
            for (int32_t k = 0; k < s->inner; k++, index++) {
                const int64_t exact = tt_mixed(&mix, a->velocity[index], s->gradient[index]);
                const int64_t rounded = tt_stochastic_shift(exact, shift, tt_random_word(key, index));
                a->velocity[index] = (int16_t)tt_clamp64(rounded, -INT16_MAX, INT16_MAX);
                tt_step_element(s, &update, &rate, index, a->velocity[index]);
            }
        }
    }
}
