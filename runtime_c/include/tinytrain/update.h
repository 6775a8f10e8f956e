// SPDX-License-Identifier: Apache-2.0
// From an exact sum of gradient products to a change of a parameter. The definition is tinytrain/ops/updates.py.
#ifndef TINYTRAIN_UPDATE_H
#define TINYTRAIN_UPDATE_H

#include "tinytrain/arithmetic.h"

// lr * multiplier * 2^shift * 2^(exponent of gy), for one channel: mantissa * 2^(exponent - 31).
typedef struct tt_rate {
    int32_t mantissa;
    int32_t exponent;
    uint32_t key;  // of the random generator
    int32_t decay_mantissa;  // of the share a weight loses
    int32_t decay_exponent;
    uint32_t decay_key;
} tt_rate;

// Of the random words of a stream at a step.
static inline uint32_t tt_random_key(const tt_hyper *hyper, uint32_t stream) {
    return tt_hash(tt_hash(hyper->seed ^ (stream * 0x9E3779B9U)) + hyper->step);
}

// Random words of one node that have nothing to do with each other: its stream's parts.
enum { TT_PART_PARAMETER = 0, TT_PART_DECAY = 1, TT_PART_FIRST_STATE = 2, TT_PART_SECOND_STATE = 3 };

static inline uint32_t tt_key_of_part(const tt_hyper *hyper, uint32_t stream, uint32_t part) {
    return tt_random_key(hyper, stream | (part << 24));
}

// The product of two numbers mantissa * 2^(exponent - 31) with mantissas 0 or in [2^30, 2^31).
static inline tt_rate tt_product(uint32_t mantissa, int32_t exponent, int32_t multiplier, int32_t shift) {
    const uint64_t product = (uint64_t)mantissa * (uint32_t)multiplier;
    tt_rate rate = {0};
    if (product != 0) {
        const int small = product < ((uint64_t)1 << 61);
        rate.mantissa = small ? (int32_t)(product >> 30) : (int32_t)(product >> 31);  // two shifts by constants
        rate.exponent = exponent + shift - small;
    }
    return rate;
}

static inline int tt_rounds_at_random(int32_t mode) {
    return mode == TT_UPDATE_STOCHASTIC8 || mode == TT_UPDATE_STOCHASTIC16 || mode == TT_UPDATE_BIAS_STOCHASTIC;
}

// The random words and the decay of a rate.
static inline tt_rate tt_completed(tt_rate rate, const tt_update *u) {
    if (tt_rounds_at_random(u->mode)) { rate.key = tt_key_of_part(u->hyper, u->stream, TT_PART_PARAMETER); }
    if (u->decay_multiplier != 0) {
        const tt_hyper *hyper = u->hyper;
        const tt_rate decay =
            tt_product(hyper->update_mantissa, hyper->update_exponent, u->decay_multiplier, u->decay_shift);
        rate.decay_mantissa = decay.mantissa;
        rate.decay_exponent = decay.exponent;
        rate.decay_key = tt_key_of_part(hyper, u->stream, TT_PART_DECAY);
    }
    return rate;
}

static inline tt_rate tt_rate_of_channel(const tt_update *u, int32_t channel) {
    if (u->mode == TT_UPDATE_STORE) {
        const tt_rate none = {0};
        return none;
    }
    const int32_t exponent = u->hyper->exponent + tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
    return tt_completed(tt_product(u->hyper->mantissa, exponent, u->multiplier[channel], u->shift[channel]), u);
}

// total * rate in units of the target's last bit: rounded half up, or stochastically.
static inline int64_t tt_scaled_delta(const tt_update *u, const tt_rate *rate, uint32_t index, int64_t total) {
    const int64_t reduced = u->total_shift != 0 ? tt_rounding_shift(total, u->total_shift) : total;
    const int64_t product = reduced * rate->mantissa;
    const int32_t right = 31 - rate->exponent - u->total_shift;
    if (!tt_rounds_at_random(u->mode)) { return tt_rounding_shift(product, right); }
    return tt_stochastic_shift(product, right, tt_random_word(rate->key, index));
}

// A parameter in units of its last bit, the fraction beside it included.
static inline int64_t tt_fine_value(const tt_update *u, uint32_t index) {
    const int8_t *bytes = u->parameter;
    const int16_t *halves = u->parameter;
    const int32_t *words = u->parameter;
    switch (u->mode) {
    case TT_UPDATE_MASTER8: return bytes[index] * 256 + ((const int8_t *)u->master)[index];
    case TT_UPDATE_STOCHASTIC8: return bytes[index];
    case TT_UPDATE_TRUNCATE8: return bytes[index] * 65536;
    case TT_UPDATE_TRUNCATE16: return halves[index] * (int64_t)65536;
    case TT_UPDATE_BIAS: return words[index] * (int64_t)65536 + ((const int16_t *)u->master)[index];
    case TT_UPDATE_BIAS_STOCHASTIC: return words[index];
    case TT_UPDATE_TRUNCATE_BIAS: return words[index] * (int64_t)65536;
    default: return halves[index];
    }
}

// The largest of such values; but a bias without a fraction goes down to INT32_MIN.
static inline int64_t tt_fine_limit(int32_t mode) {
    switch (mode) {
    case TT_UPDATE_STOCHASTIC8: return 127;
    case TT_UPDATE_TRUNCATE8: return 127 * 65536;
    case TT_UPDATE_TRUNCATE16: return (int64_t)127 * 256 * 65536;
    case TT_UPDATE_BIAS:
    case TT_UPDATE_TRUNCATE_BIAS: return INT32_MAX * (int64_t)65536;
    case TT_UPDATE_BIAS_STOCHASTIC: return INT32_MAX;
    default: return 127 * 256;
    }
}

// A parameter and its fraction, the low part of what is rounded; without one the value is cut toward zero.
static inline void tt_put_fine_value(const tt_update *u, uint32_t index, int64_t fine) {
    int8_t *bytes = u->parameter;
    int16_t *halves = u->parameter;
    int32_t *words = u->parameter;
    const int64_t cut = (fine + (fine < 0 ? 65535 : 0)) >> 16;
    switch (u->mode) {
    case TT_UPDATE_MASTER8:
        bytes[index] = (int8_t)((fine + 128) >> 8);
        ((int8_t *)u->master)[index] = (int8_t)fine;
        break;
    case TT_UPDATE_STOCHASTIC8: bytes[index] = (int8_t)fine; break;
    case TT_UPDATE_TRUNCATE8: bytes[index] = (int8_t)cut; break;
    case TT_UPDATE_TRUNCATE16: halves[index] = (int16_t)cut; break;
    case TT_UPDATE_BIAS:
        words[index] = (int32_t)((fine + 32768) >> 16);
        ((int16_t *)u->master)[index] = (int16_t)fine;
        break;
    case TT_UPDATE_BIAS_STOCHASTIC: words[index] = (int32_t)fine; break;
    case TT_UPDATE_TRUNCATE_BIAS: words[index] = (int32_t)cut; break;
    default: halves[index] = (int16_t)fine; break;
    }
}

static inline void tt_apply_delta(const tt_update *u, uint32_t index, int64_t delta) {
    if (u->mode == TT_UPDATE_ACCUMULATE) {
        u->accumulator[index] = tt_saturating_add(u->accumulator[index], tt_saturate32(delta));
        return;
    }
    const int64_t largest = (int64_t)1 << 48, limit = tt_fine_limit(u->mode);
    const int64_t lowest = u->mode == TT_UPDATE_BIAS_STOCHASTIC ? INT32_MIN : -limit;
    const int64_t fine = tt_fine_value(u, index) - tt_clamp64(delta, -largest, largest);
    tt_put_fine_value(u, index, tt_clamp64(fine, lowest, limit));
}

// delta and what the weight decays by: rate * weight decay * weight, rounded at random.
static inline int64_t tt_decayed_delta(const tt_update *u, const tt_rate *rate, uint32_t index, int64_t delta) {
    const int64_t largest = (int64_t)1 << 60;
    const int64_t product = tt_fine_value(u, index) * rate->decay_mantissa;
    const int64_t decay =
        tt_stochastic_shift(product, 31 - rate->decay_exponent, tt_random_word(rate->decay_key, index));
    return tt_clamp64(delta, -largest, largest) + tt_clamp64(decay, -largest, largest);
}

// One element: `total` is the exact sum of gradient products for element `index` of the target.
static inline void tt_update_element(const tt_update *u, const tt_rate *rate, uint32_t index, int64_t total) {
    if (u->mode == TT_UPDATE_STORE) {
        u->accumulator[index] = tt_saturate32(tt_rounding_shift(total, u->total_shift));
        return;
    }
    const int64_t delta = tt_scaled_delta(u, rate, index, total);
    tt_apply_delta(u, index, u->decay_multiplier != 0 ? tt_decayed_delta(u, rate, index, delta) : delta);
}

#endif
