// SPDX-License-Identifier: Apache-2.0
// What the update rules with a gradient of their own share. The definition is tinytrain/ops/rules.py.
#ifndef TINYTRAIN_OPTIMIZER_H
#define TINYTRAIN_OPTIMIZER_H

#include "tinytrain/update.h"

enum {
    TT_STATE_FLOOR = -160,     // the smallest exponent of a state
    TT_ZERO_EXPONENT = -400,   // of a gradient that is zero throughout
};

// A gradient in 31 bits: element = rsh(gradient, right) * 2^exponent.
typedef struct tt_leveled_gradient {
    int32_t right;
    int32_t exponent;
} tt_leveled_gradient;

static inline uint32_t tt_step_size(const tt_step *s) { return (uint32_t)(s->outer * s->channels * s->inner); }

static inline tt_leveled_gradient tt_level_gradient(const tt_step *s, int32_t bits) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < tt_step_size(s); i++) {
        const uint64_t magnitude = tt_magnitude(s->gradient[i]);
        if (magnitude > largest) { largest = magnitude; }
    }
    tt_leveled_gradient scaled = {0, TT_ZERO_EXPONENT};
    if (largest != 0) {
        scaled.right = tt_bit_length(largest) - bits;
        scaled.exponent = tt_exponent_of(s->gradient_exponent, s->gradient_exponent_offset) + scaled.right;
    }
    return scaled;
}

// state * 2^exponent * beta + gradient * gamma, rates in 2^-16: a sum in units of 2^(unit).
typedef struct tt_mix {
    int32_t beta, gamma;
    int32_t state_right, gradient_right;
    int32_t unit;
    int32_t scale;  // right shift of a gradient into 31 bits
} tt_mix;

static inline tt_mix tt_mix_of(int32_t exponent, int32_t beta, tt_leveled_gradient gradient, int32_t gamma) {
    const int32_t top = tt_max(exponent, gradient.exponent);
    const tt_mix mix = {beta, gamma, top - exponent - 14, top - gradient.exponent - 14, top - 30, gradient.right};
    return mix;
}

// |state| < 2^18; the result is below 2^62.
static inline int64_t tt_mixed(const tt_mix *mix, int32_t state, int32_t gradient) {
    const int64_t scaled = tt_rounding_shift(gradient, mix->scale);
    return tt_rounding_shift((int64_t)state * mix->beta, mix->state_right) +
           tt_rounding_shift(scaled * mix->gamma, mix->gradient_right);
}

// How far values of at most `largest` in units of 2^unit move right to fit `bits` bits and a state's exponents.
static inline int32_t tt_state_shift(uint64_t largest, int32_t unit, int32_t bits) {
    return tt_max(tt_max(tt_bit_length(largest) - bits, 0), TT_STATE_FLOOR - unit);
}

// --- minifloats: exponent and a mantissa of three bits, counted in units of 2^shift ---

// The code of `magnitude` / 2^shift, rounded at random; shift >= 0.
static inline int32_t tt_minifloat(uint64_t magnitude, int32_t shift, uint32_t word) {
    const int32_t drop = tt_max(shift, tt_bit_length(magnitude) - 4);
    return ((drop - shift) * 8) + (int32_t)tt_stochastic_shift((int64_t)magnitude, drop, word);
}

static inline int64_t tt_minifloat_value(int32_t code) {
    return code < 8 ? code : (int64_t)(8 + (code & 7)) << ((code >> 3) - 1);
}

static inline int8_t tt_signed_minifloat(int64_t value, int32_t shift, uint32_t word) {
    const int32_t code = tt_min(tt_minifloat(tt_magnitude(value), shift, word), 127);
    return (int8_t)(value < 0 ? -code : code);
}

static inline int32_t tt_signed_minifloat_value(int8_t code) {
    const int32_t value = (int32_t)tt_minifloat_value(code < 0 ? -code : code);
    return code < 0 ? -value : value;
}

// --- the change of the parameter ---

static inline tt_update tt_update_of_step(const tt_step *s) {
    const tt_update update = {.parameter = s->parameter, .master = s->master, .hyper = s->hyper,
                              .multiplier = s->multiplier, .shift = s->shift, .stream = s->stream, .mode = s->mode,
                              .decay_multiplier = s->decay_multiplier, .decay_shift = s->decay_shift};
    return update;
}

// rate * multiplier of a channel, where rate is mantissa * 2^(exponent - 31).
static inline tt_rate tt_step_rate(const tt_update *u, uint32_t mantissa, int32_t exponent, int32_t channel) {
    return tt_completed(tt_product(mantissa, exponent, u->multiplier[channel], u->shift[channel]), u);
}

// Subtract rate * direction from element `index`; |direction| < 2^31.
static inline void tt_step_element(const tt_step *s, const tt_update *u, const tt_rate *rate, uint32_t index,
                                   int32_t direction) {
    tt_update_element(u, rate, index, direction);
    if (s->clear != 0) { s->gradient[index] = 0; }
}

#endif
