// SPDX-License-Identifier: Apache-2.0
// tt_lion_update_s8: two passes, the first finds the exponent that fits every new momentum.
#include "tinytrain/kernels/lion_update.h"
#include "tinytrain/optimizer.h"

static int32_t momentum_of(const tt_lion_update_s8_args *a, uint32_t index) {
    return tt_signed_minifloat_value(a->momentum[index]);
}

static uint64_t largest_momentum(const tt_lion_update_s8_args *a, const tt_mix *mix) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < tt_step_size(&a->step); i++) {
        const uint64_t magnitude = tt_magnitude(tt_mixed(mix, momentum_of(a, i), a->step.gradient[i]));
        if (magnitude > largest) { largest = magnitude; }
    }
    return largest;
}

void tt_lion_update_s8(const void *args) {
    const tt_lion_update_s8_args *a = args;
    const tt_step *s = &a->step;
    const tt_update update = tt_update_of_step(s);
    const tt_leveled_gradient scaled = tt_level_gradient(s, 31);
    const tt_mix taken = tt_mix_of(a->exponent[0], a->beta1, scaled, 65536 - a->beta1);
    const tt_mix kept = tt_mix_of(a->exponent[0], a->beta2, scaled, 65536 - a->beta2);
    const int32_t shift = tt_state_shift(largest_momentum(a, &kept), kept.unit, 18);
    const uint32_t key = tt_key_of_part(s->hyper, s->stream, TT_PART_FIRST_STATE);
    a->exponent[0] = kept.unit + shift;
    uint32_t index = 0;
    for (int32_t o = 0; o < s->outer; o++) {
        for (int32_t c = 0; c < s->channels; c++) {
            const tt_rate rate = tt_step_rate(&update, s->hyper->update_mantissa, s->hyper->update_exponent, c);
            for (int32_t k = 0; k < s->inner; k++, index++) {
                const int64_t direction = tt_mixed(&taken, momentum_of(a, index), s->gradient[index]);
                const int64_t exact = tt_mixed(&kept, momentum_of(a, index), s->gradient[index]);
                a->momentum[index] = tt_signed_minifloat(exact, shift, tt_random_word(key, index));
                tt_step_element(s, &update, &rate, index, (direction > 0) - (direction < 0));
            }
        }
    }
}
