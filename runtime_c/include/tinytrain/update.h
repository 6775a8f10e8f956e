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

// Subtract delta (in units of the last fractional bit) from a parameter of two parts, coarse and fine.
static inline int64_t tt_subtract_fine(int64_t coarse, int64_t fine, int64_t delta, int32_t bits, int64_t limit) {
    const int64_t largest = (int64_t)1 << 48;
    const int64_t edge = limit * ((int64_t)1 << bits);
    return tt_clamp64(coarse * ((int64_t)1 << bits) + fine - tt_clamp64(delta, -largest, largest), -edge, edge);
}

// The same for a parameter that keeps no fraction: (coarse - delta * 2^-16), cut to an integer toward zero.
static inline int64_t tt_subtract_truncated(int64_t coarse, int64_t delta, int64_t limit) {
    return tt_subtract_fine(coarse, 0, delta, 16, limit) / 65536;
}

static inline void tt_apply_delta(const tt_update *u, uint32_t index, int64_t delta) {
    switch (u->mode) {
    case TT_UPDATE_MASTER8: {
        int8_t *weight = (int8_t *)u->parameter + index;
        int8_t *master = (int8_t *)u->master + index;
        const int64_t fine = tt_subtract_fine(*weight, *master, delta, 8, 127);
        *weight = (int8_t)((fine + 128) >> 8);
        *master = (int8_t)(fine - *weight * 256);
        break;
    }
    case TT_UPDATE_STOCHASTIC8: {
        int8_t *weight = (int8_t *)u->parameter + index;
        *weight = (int8_t)tt_clamp64(*weight - tt_clamp64(delta, -(1 << 30), 1 << 30), -127, 127);
        break;
    }
    case TT_UPDATE_WEIGHT16:
    case TT_UPDATE_STOCHASTIC16: {
        int16_t *weight = (int16_t *)u->parameter + index;
        *weight = (int16_t)tt_clamp64(*weight - tt_clamp64(delta, -(1 << 30), 1 << 30), -127 * 256, 127 * 256);
        break;
    }
    case TT_UPDATE_BIAS: {
        int32_t *bias = (int32_t *)u->parameter + index;
        int16_t *master = (int16_t *)u->master + index;
        const int64_t fine = tt_subtract_fine(*bias, *master, delta, 16, INT32_MAX);
        *bias = (int32_t)((fine + 32768) >> 16);
        *master = (int16_t)(fine - (int64_t)*bias * 65536);
        break;
    }
    case TT_UPDATE_BIAS_STOCHASTIC: {
        const int64_t largest = (int64_t)1 << 48;
        int32_t *bias = (int32_t *)u->parameter + index;
        *bias = tt_saturate32(*bias - tt_clamp64(delta, -largest, largest));
        break;
    }
    case TT_UPDATE_TRUNCATE8: {
        int8_t *weight = (int8_t *)u->parameter + index;
        *weight = (int8_t)tt_subtract_truncated(*weight, delta, 127);
        break;
    }
    case TT_UPDATE_TRUNCATE16: {
        int16_t *weight = (int16_t *)u->parameter + index;
        *weight = (int16_t)tt_subtract_truncated(*weight, delta, 127 * 256);
        break;
    }
    case TT_UPDATE_TRUNCATE_BIAS: {
        int32_t *bias = (int32_t *)u->parameter + index;
        *bias = (int32_t)tt_subtract_truncated(*bias, delta, INT32_MAX);
        break;
    }
    default:
        u->accumulator[index] = tt_saturating_add(u->accumulator[index], tt_saturate32(delta));
        break;
    }
}

// A weight in units of its last bit.
static inline int64_t tt_fine_weight(const tt_update *u, uint32_t index) {
    switch (u->mode) {
    case TT_UPDATE_MASTER8: return ((const int8_t *)u->parameter)[index] * 256 + ((const int8_t *)u->master)[index];
    case TT_UPDATE_STOCHASTIC8: return ((const int8_t *)u->parameter)[index];
    case TT_UPDATE_TRUNCATE8: return ((const int8_t *)u->parameter)[index] * 65536;
    case TT_UPDATE_TRUNCATE16: return ((const int16_t *)u->parameter)[index] * (int64_t)65536;
    default: return ((const int16_t *)u->parameter)[index];
    }
}

// delta and what the weight decays by: rate * weight decay * weight, rounded at random.
static inline int64_t tt_decayed_delta(const tt_update *u, const tt_rate *rate, uint32_t index, int64_t delta) {
    const int64_t largest = (int64_t)1 << 60;
    const int64_t product = tt_fine_weight(u, index) * rate->decay_mantissa;
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
