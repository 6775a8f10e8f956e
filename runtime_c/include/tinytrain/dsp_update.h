// SPDX-License-Identifier: Apache-2.0
// Updates of neighbouring weights on cores with DSP instructions: the modes that occur, where sums fit 32 bits and
// nothing is clipped or decays. All others go the way of tinytrain/update.h.
#ifndef TINYTRAIN_DSP_UPDATE_H
#define TINYTRAIN_DSP_UPDATE_H

#include "tinytrain/clipping.h"
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/update.h"

// What all channels share.
typedef struct tt_quick_update {
    int32_t possible;
    uint32_t twice_mantissa;
    int32_t right;
} tt_quick_update;

static inline tt_quick_update tt_quick_update_of(const tt_update *u) {
    const int32_t exponent = u->hyper->exponent + tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
    const int known = u->mode == TT_UPDATE_MASTER8 || u->mode == TT_UPDATE_WEIGHT16;
    const tt_quick_update quick = {known && u->total_shift == 0 && u->decay_multiplier == 0 && u->clip == 0,
                                   2 * u->hyper->mantissa, -1 - exponent};
    return quick;
}

// One channel's rate: a sum, raised by `up` bits, changes a weight by (high word of raised * mantissa + half) >> shift.
typedef struct tt_quick_rate {
    int32_t mantissa, half, shift, up;
} tt_quick_rate;

// What is shifted by more than 31 bits beyond the high word is nothing, as with 31. Where a raised sum does not fit 32
// bits, or is to be raised by more than 31, it saturates, and the change is beyond all weights as it is without.
static inline void tt_set_quick_rate(const tt_quick_update *quick, const tt_update *u, int32_t channel,
                                     tt_quick_rate *rate) {
    const uint64_t product = (uint64_t)quick->twice_mantissa * (uint32_t)u->multiplier[channel];
    const uint32_t high = (uint32_t)(product >> 32), low = (uint32_t)product;
    const int small = high < 1U << 30;  // as in tt_product
    const int32_t right = quick->right - u->shift[channel] + small, shift = tt_clamp(right, 1, 31);
    rate->mantissa = (int32_t)(small ? high << 1 | low >> 31 : high);
    rate->half = 1 << (shift - 1);
    rate->shift = shift;
    rate->up = tt_clamp(1 - right, 0, 31);
}

static inline int32_t tt_quick_delta(const tt_quick_rate *rate, int32_t sum) {
    const int32_t raised = (int32_t)((uint32_t)sum << rate->up);
    const int32_t held = raised >> rate->up == sum ? raised : (sum < 0 ? INT32_MIN : INT32_MAX);
    return (tt_high_word(held, rate->mantissa) + rate->half) >> rate->shift;
}

// The lower half of a word held within +-32512 and raised by -256, which changes neither the byte below nor anything
// that a caller does not add back: saturation at the ends of int16, moved there.
TT_ALWAYS_INLINE static inline uint32_t tt_held_fine(int32_t fine) {
    uint32_t held = (uint32_t)tt_saturate16(fine);
    held = (uint32_t)__qadd16((int16x2_t)held, 32767 - 32512);
    return (uint32_t)__qsub16((int16x2_t)held, 32767 - 32512 + 32768 - 32512);
}

TT_ALWAYS_INLINE static inline void tt_quick_master8(int8_t *weight, int8_t *master, int32_t delta) {
    const uint32_t held = tt_held_fine(*weight * 256 + *master - delta);
    *master = (int8_t)held;
    *weight = (int8_t)((held + 256 + 128) >> 8);
}

TT_ALWAYS_INLINE static inline void tt_quick_weight16(int16_t *weight, int32_t delta) {
    *weight = (int16_t)(tt_held_fine(*weight - delta) + 256);
}

// Rows of `columns` neighbours (1 or 2), from `index` on, `step` elements apart.
TT_RARE static void tt_quick_rows(const tt_update *u, const tt_quick_rate *rates, int32_t rows, int32_t columns,
                                  uint32_t index, uint32_t step, const int64_t *sums) {
    for (int32_t r = 0; r < rows; r++, index += step) {
        for (int32_t c = 0; c < columns; c++) {
            const int32_t delta = tt_quick_delta(&rates[r], (int32_t)sums[TT_DOT_COLUMNS * r + c]);
            const uint32_t at = index + (uint32_t)c;
            if (u->mode == TT_UPDATE_MASTER8) {
                tt_quick_master8((int8_t *)u->parameter + at, (int8_t *)u->master + at, delta);
            } else {
                tt_quick_weight16((int16_t *)u->parameter + at, delta);
            }
        }
    }
}

#endif
