// SPDX-License-Identifier: Apache-2.0
// Updates of neighbouring weights on cores with DSP instructions: the modes and rates that occur take a short way, all
// others that of tinytrain/update.h.
#ifndef TINYTRAIN_DSP_UPDATE_H
#define TINYTRAIN_DSP_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/update.h"

// One channel's rate. Where `quick`: a sum, brought into 32 bits, changes a weight by
// (high word of sum * mantissa + half) >> shift, which is the product rounded half up at bit 32 + shift.
typedef struct tt_channel_rate {
    int32_t quick;
    int32_t mantissa, half, shift;
    tt_rate rate;
} tt_channel_rate;

TT_SHARED_LOOP static void tt_channel_rate_of(const tt_update *u, int32_t channel, tt_channel_rate *to) {
    to->rate = tt_rate_of_channel(u, channel);
    const int32_t right = 31 - to->rate.exponent - u->total_shift;
    const int none = to->rate.mantissa == 0 || right > 62;
    const int known = u->mode == TT_UPDATE_MASTER8 || u->mode == TT_UPDATE_WEIGHT16;
    to->quick = known && u->decay_multiplier == 0 && u->clip == 0 && (none || right > 32);
    if (!to->quick) { return; }
    to->mantissa = none ? 0 : to->rate.mantissa;
    to->shift = none ? 1 : right - 32;
    to->half = none ? 0 : 1 << (right - 33);
}

static inline int32_t tt_quick_delta(const tt_channel_rate *rate, int32_t sum) {
    int32_t high;
    __asm__("smmla %0, %1, %2, %3" : "=r"(high) : "r"(sum), "r"(rate->mantissa), "r"(rate->half));
    return high >> rate->shift;
}

// The lower half of a word held within +-32512 and raised by -256, which changes neither the byte below nor anything
// that a caller does not add back: saturation at the ends of int16, moved there.
static inline uint32_t tt_held_fine(int32_t fine) {
    uint32_t held = (uint32_t)tt_saturate16(fine);
    held = (uint32_t)__qadd16((int16x2_t)held, 32767 - 32512);
    return (uint32_t)__qsub16((int16x2_t)held, 32767 - 32512 + 32768 - 32512);
}

static inline void tt_quick_master8(int8_t *weight, int8_t *master, int32_t delta) {
    const uint32_t held = tt_held_fine(*weight * 256 + *master - delta);
    *master = (int8_t)held;
    *weight = (int8_t)((held + 256 + 128) >> 8);
}

static inline void tt_quick_weight16(int16_t *weight, int32_t delta) {
    *weight = (int16_t)(tt_held_fine(*weight - delta) + 256);
}

// Any rate; `total` is the exact sum of gradient products.
TT_RARE static void tt_update_weight(const tt_update *u, const tt_channel_rate *rate, uint32_t index, int64_t total,
                                     tt_clipping *clipping) {
    if (!rate->quick) {
        tt_update_element(u, &rate->rate, index, tt_clipped(clipping, total));
        return;
    }
    const int32_t delta = tt_quick_delta(rate, (int32_t)tt_rounding_shift(total, u->total_shift));
    if (u->mode == TT_UPDATE_MASTER8) {
        tt_quick_master8((int8_t *)u->parameter + index, (int8_t *)u->master + index, delta);
    } else {
        tt_quick_weight16((int16_t *)u->parameter + index, delta);
    }
}

// Whether tt_quick_rows may follow, with the rates of so many rows.
static inline int tt_all_quick(const tt_update *u, const tt_channel_rate *rates, int32_t rows) {
    int32_t quick = u->total_shift == 0 ? 1 : 0;
    for (int32_t r = 0; r < rows; r++) { quick &= rates[r].quick; }
    return quick;
}

// Rows of two neighbours, from `index` on, `step` elements apart.
TT_SHARED_LOOP static void tt_quick_rows(const tt_update *u, const tt_channel_rate *rates, int32_t rows, uint32_t index,
                                         uint32_t step, const int32_t *sums) {
    const tt_channel_rate *const end = rates + rows;
    if (u->mode == TT_UPDATE_MASTER8) {
        int8_t *weights = (int8_t *)u->parameter + index, *masters = (int8_t *)u->master + index;
        for (; rates < end; rates++, weights += step, masters += step, sums += TT_DOT_COLUMNS) {
            const int32_t first = tt_quick_delta(rates, sums[0]), second = tt_quick_delta(rates, sums[1]);
            tt_quick_master8(weights, masters, first);
            tt_quick_master8(weights + 1, masters + 1, second);
        }
        return;
    }
    int16_t *weights = (int16_t *)u->parameter + index;
    for (; rates < end; rates++, weights += step, sums += TT_DOT_COLUMNS) {
        const int32_t first = tt_quick_delta(rates, sums[0]), second = tt_quick_delta(rates, sums[1]);
        tt_quick_weight16(weights, first);
        tt_quick_weight16(weights + 1, second);
    }
}

#endif
