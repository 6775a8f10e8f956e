// SPDX-License-Identifier: Apache-2.0
// tt_update_element with what one channel's elements share prepared: the updates of masters, of int16 weights and of
// biases that a 32-bit core can do with one long multiplication. The others take the general way.
#ifndef TINYTRAIN_FAST_UPDATE_H
#define TINYTRAIN_FAST_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/update.h"

typedef struct tt_fast_rate {
    tt_rate rate;
    int32_t half, right;  // of the product's high word; right = 0: the general way
} tt_fast_rate;

// The fast way rounds half up, neither clips nor decays, and its sums need no reduction.
static inline tt_fast_rate tt_fast_rate_of(const tt_update *u, int32_t channel) {
    tt_fast_rate fast = {tt_rate_of_channel(u, channel), 0, 0};
    const int32_t right = fast.rate.mantissa != 0 ? 31 - fast.rate.exponent - 32 : 1;
    const int known = u->mode == TT_UPDATE_MASTER8 || u->mode == TT_UPDATE_WEIGHT16 || u->mode == TT_UPDATE_BIAS;
    if (known && u->clip == 0 && u->decay_multiplier == 0 && u->total_shift == 0 && right >= 1 && right <= 30) {
        fast.half = 1 << (right - 1), fast.right = right;
    }
    return fast;
}

// `total`: the exact sum for element `index`.
static inline void tt_fast_update(const tt_update *u, const tt_fast_rate *fast, uint32_t index, int32_t total) {
    const int32_t high = (int32_t)(((int64_t)total * fast->rate.mantissa) >> 32);
    const int32_t delta = (high + fast->half) >> fast->right;
    if (u->mode == TT_UPDATE_MASTER8) {
        int8_t *weight = (int8_t *)u->parameter + index, *master = (int8_t *)u->master + index;
        const int32_t fine = tt_clamp(*weight * 256 + *master - delta, -127 * 256, 127 * 256);
        *weight = (int8_t)((fine + 128) >> 8);
        *master = (int8_t)fine;  // what is left is the low byte
    } else {
        int16_t *weight = (int16_t *)u->parameter + index;
        *weight = (int16_t)tt_clamp(*weight - delta, -127 * 256, 127 * 256);
    }
}

// --- biases ---

// What the channels of a bias share.
typedef struct tt_fast_biases {
    int32_t possible;
    uint32_t mantissa;
    int32_t right;  // of a product's high word, before a channel's own shift
} tt_fast_biases;

static inline tt_fast_biases tt_fast_biases_of(const tt_update *u) {
    tt_fast_biases fast = {0};
    if (u->mode != TT_UPDATE_BIAS || u->clip != 0 || u->decay_multiplier != 0 || u->total_shift != 0) { return fast; }
    const int32_t exponent = u->hyper->exponent + tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
    fast.possible = 1;
    fast.mantissa = u->hyper->mantissa;
    fast.right = fast.mantissa != 0 ? 31 - 32 - exponent : 1 << 20;  // beyond all shifts
    return fast;
}

// Where possible, and returns whether it did channel c: its two parts need no more than a carry where no clamp is near.
static inline int tt_fast_bias_update(const tt_update *u, const tt_fast_biases *fast, int32_t c, int32_t sum) {
    const uint64_t product = (uint64_t)fast->mantissa * (uint32_t)u->multiplier[c];
    const uint32_t low = (uint32_t)product, top = (uint32_t)(product >> 32);
    const int small = top < 1U << 29;  // as in tt_product
    const int32_t wanted = fast->right - u->shift[c] + small, limit = 1 << 30;
    int32_t *bias = (int32_t *)u->parameter + c;
    if (wanted < -31 || *bias > limit || *bias < -limit) { return 0; }
    const int32_t mantissa = (int32_t)(small ? top << 2 | low >> 30 : top << 1 | low >> 31);
    const int64_t change = (int64_t)sum * mantissa;
    int32_t delta;
    if (wanted >= 1) {
        const int32_t right = tt_min(wanted, 31);  // a high word lies within +-2^30: of it nothing is left from 31 on
        delta = ((int32_t)(change >> 32) + (1 << (right - 1))) >> right;
    } else {
        const int64_t wide = (change + ((int64_t)1 << (31 + wanted))) >> (32 + wanted);
        if (wide > limit || wide < -limit) { return 0; }
        delta = (int32_t)wide;
    }
    int16_t *master = (int16_t *)u->master + c;
    const int32_t fine = *master - delta;
    *bias += (fine + 32768) >> 16;
    *master = (int16_t)fine;  // what is left is the low half
    return 1;
}

#endif
