// SPDX-License-Identifier: Apache-2.0
// tt_adam_update_s8: two passes, the first finds the exponents that fit every new state.
#include "tinytrain/kernels/adam_update.h"
#include "tinytrain/optimizer.h"

// 2^18 / sqrt((8 + i % 8) * 2^(i / 8))
static const int32_t INVERSE_ROOTS[16] = {92682, 87381, 82897, 79039, 75674, 72706, 70061, 67685,
                                          65536, 61788, 58617, 55889, 53510, 51411, 49541, 47861};

enum { RATIO_LIMIT = 8 * 65536 };

// What v = beta2 * v + (1 - beta2) * g^2 is computed with: a sum in units of 2^unit.
typedef struct second_mix {
    int32_t beta, state_right, square_right, unit, scale;
} second_mix;

static second_mix second_mix_of(int32_t exponent, int32_t beta, tt_leveled_gradient gradient) {
    const int32_t top = tt_max(exponent, 2 * gradient.exponent);
    const second_mix mix = {beta, top - exponent, top - 2 * gradient.exponent, top - 16, gradient.right};
    return mix;
}

static int64_t second_mixed(const second_mix *mix, int32_t code, int32_t gradient) {
    const int64_t scaled = tt_rounding_shift(gradient, mix->scale);
    return tt_rounding_shift(tt_minifloat_value(code) * mix->beta, mix->state_right) +
           tt_rounding_shift(scaled * scaled * (65536 - mix->beta), mix->square_right);
}

// m / sqrt(v) in 2^-16, where m = first * 2^unit and v is a code in 2^exponent; the smallest code stands for zero.
static int32_t ratio_of(int64_t first, int32_t unit, int32_t code, int32_t exponent) {
    int32_t mantissa = code == 0 ? 1 : (code < 8 ? code : 8 + (code & 7));
    int32_t power = exponent + (code < 8 ? 0 : (code >> 3) - 1);
    for (; mantissa < 8; mantissa *= 2) { power--; }
    const int32_t odd = power & 1;
    const int32_t right = ((power - odd) / 2) - unit + 18 - 16;
    const int64_t ratio = tt_rounding_shift(first * INVERSE_ROOTS[odd * 8 + mantissa - 8], right);
    return (int32_t)tt_clamp64(ratio, -RATIO_LIMIT, RATIO_LIMIT);
}

// floor(sqrt(x)), bit by bit.
static uint64_t square_root(uint64_t x) {
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 62; bit != 0; bit >>= 2) {
        if (x >= root + bit) {
            x -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return root;
}

// The rate times sqrt(1 - beta2^t) / (1 - beta1^t).
static tt_rate corrected_rate(const tt_adam_update_s8_args *a) {
    const tt_hyper *hyper = a->step.hyper;
    a->state->power1 = (int32_t)(((int64_t)a->state->power1 * a->beta1) >> 16);
    a->state->power2 = (int32_t)(((int64_t)a->state->power2 * a->beta2) >> 16);
    const uint64_t rest1 = (uint64_t)((1 << 30) - a->state->power1);
    const uint64_t rest2 = (uint64_t)((1 << 30) - a->state->power2);
    const uint64_t quotient = (square_root(rest2 << 30) << 31) / rest1;
    const int32_t length = tt_bit_length(quotient);
    const uint64_t mantissa = length > 31 ? quotient >> (length - 31) : quotient << (31 - length);
    return tt_product(hyper->update_mantissa, hyper->update_exponent, (int32_t)mantissa, length - 31);
}

void tt_adam_update_s8(const void *args) {
    const tt_adam_update_s8_args *a = args;
    const tt_step *s = &a->step;
    const tt_update update = tt_update_of_step(s);
    const uint32_t size = tt_step_size(s);
    const tt_mix mix1 =
        tt_mix_of(a->state->first_exponent, a->beta1, tt_level_gradient(s, 31), 65536 - a->beta1);
    const second_mix mix2 = second_mix_of(a->state->second_exponent, a->beta2, tt_level_gradient(s, 23));
    uint64_t largest1 = 0, largest2 = 0;
    for (uint32_t i = 0; i < size; i++) {
        const uint64_t first = tt_magnitude(tt_mixed(&mix1, tt_signed_minifloat_value(a->first[i]), s->gradient[i]));
        const uint64_t second = (uint64_t)second_mixed(&mix2, a->second[i], s->gradient[i]);
        if (first > largest1) { largest1 = first; }
        if (second > largest2) { largest2 = second; }
    }
    const int32_t shift1 = tt_state_shift(largest1, mix1.unit, 18);
    const int32_t shift2 = tt_max(tt_max(tt_bit_length(largest2) - 34, 0), 2 * TT_STATE_FLOOR - mix2.unit);
    const int32_t reduce = tt_max(tt_bit_length(largest1) - 31, 0);
    const uint32_t key1 = tt_key_of_part(s->hyper, s->stream, TT_PART_FIRST_STATE);
    const uint32_t key2 = tt_key_of_part(s->hyper, s->stream, TT_PART_SECOND_STATE);
    const tt_rate base = corrected_rate(a);
    a->state->first_exponent = mix1.unit + shift1;
    a->state->second_exponent = mix2.unit + shift2;
    uint32_t i = 0;
    for (int32_t o = 0; o < s->outer; o++) {
        for (int32_t c = 0; c < s->channels; c++) {
            const tt_rate rate = tt_step_rate(&update, (uint32_t)base.mantissa, base.exponent - 16, c);
            for (int32_t k = 0; k < s->inner; k++, i++) {
                const int64_t first = tt_mixed(&mix1, tt_signed_minifloat_value(a->first[i]), s->gradient[i]);
                const int64_t second = second_mixed(&mix2, a->second[i], s->gradient[i]);
                a->first[i] = tt_signed_minifloat(first, shift1, tt_random_word(key1, i));
                a->second[i] = (uint8_t)tt_min(tt_minifloat((uint64_t)second, shift2, tt_random_word(key2, i)), 255);
                const int32_t ratio = ratio_of(tt_rounding_shift(first, reduce), mix1.unit + reduce, a->second[i],
                                               a->state->second_exponent);
                tt_step_element(s, &update, &rate, i, ratio);
            }
        }
    }
}
