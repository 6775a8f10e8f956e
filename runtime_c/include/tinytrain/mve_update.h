// SPDX-License-Identifier: Apache-2.0
// From sums of 32 bits to changes of parameters, four elements at a time; the bits of tinytrain/update.h.
#ifndef TINYTRAIN_MVE_UPDATE_H
#define TINYTRAIN_MVE_UPDATE_H

#include <arm_mve.h>
#include <string.h>

#include "tinytrain/clipping.h"
#include "tinytrain/update.h"

// Rates of four channels. A delta is ((sum << left) * mantissa) >> 32, shifted once more and rounded by `shift` < 0.
//
// Why these are the bits of tt_scaled_delta, n its shift to the right: for n > 32 the floor of the high word drops only
// bits below the one that rounds. For smaller n the sum is raised to n = 33; where that saturates, the true delta and
// this one both pass 2^28, and that is beyond every limit of a weight. Elsewhere such a delta is not used.
typedef struct tt_mve_rates {
    int32_t mantissa[4], left[4], shift[4];
} tt_mve_rates;

// The same in registers.
typedef struct tt_mve_rate_lanes {
    int32x4_t mantissa, left, shift;
} tt_mve_rate_lanes;

// Of the channels from `channel` on, where `some` says there are any. exponent: of the gradient and the learning rate.
static inline tt_mve_rate_lanes tt_mve_rate_lanes_of(const tt_update *u, int32_t channel, int32_t exponent,
                                                     mve_pred16_t some) {
    const uint32x4_t multiplier = vreinterpretq_u32_s32(vldrwq_z_s32(u->multiplier + channel, some));
    const uint32x4_t rate = vdupq_n_u32(u->hyper->mantissa);
    const uint32x4_t high = vmulhq_u32(multiplier, rate), low = vmulq_u32(multiplier, rate);
    const mve_pred16_t small = vcmphiq_u32(vdupq_n_u32(1U << 29), high);  // of the product: below 2^61
    const uint32x4_t mantissa =
        vpselq_u32(vsliq_n_u32(vshrq_n_u32(low, 30), high, 2), vsliq_n_u32(vshrq_n_u32(low, 31), high, 1), small);
    // how far the delta's shift to the right goes beyond a high word
    const int32x4_t shift = vldrhq_z_s32(u->shift + channel, some);
    const int32x4_t wide = vsubq_s32(vdupq_n_s32(-1 - exponent - u->total_shift), shift);
    const int32x4_t beyond = vaddq_m_n_s32(wide, wide, 1, small);
    const int32x4_t left = vminq_s32(vmaxq_s32(vsubq_s32(vdupq_n_s32(1), beyond), vdupq_n_s32(0)), vdupq_n_s32(31));
    const int32x4_t right = vminq_s32(vmaxq_s32(beyond, vdupq_n_s32(1)), vdupq_n_s32(33));
    const tt_mve_rate_lanes lanes = {vreinterpretq_s32_u32(mantissa), left, vnegq_s32(right)};
    return lanes;
}

static inline int32_t tt_mve_rate_exponent(const tt_update *u) {
    return u->hyper->exponent + tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
}

// Of the first `count` channels from `channel` on, at most four.
static inline void tt_mve_rates_of(const tt_update *u, int32_t channel, int32_t count, tt_mve_rates *rates) {
    const mve_pred16_t some = vctp32q((uint32_t)count);
    const tt_mve_rate_lanes lanes = tt_mve_rate_lanes_of(u, channel, tt_mve_rate_exponent(u), some);
    vstrwq_s32(rates->mantissa, lanes.mantissa);
    vstrwq_s32(rates->left, lanes.left);
    vstrwq_s32(rates->shift, lanes.shift);
}

static inline int32x4_t tt_mve_delta(int32x4_t sums, const tt_mve_rates *rates, int32_t i) {
    const int32x4_t raised = vqshlq_r_s32(sums, rates->left[i]);
    return vrshlq_n_s32(vmulhq_s32(raised, vdupq_n_s32(rates->mantissa[i])), rates->shift[i]);
}

// Does tt_mve_update_rows know what to do with this update?
static inline int tt_mve_updates(const tt_update *u) {
    return u->clip == 0 && u->decay_multiplier == 0 &&
           (u->mode == TT_UPDATE_MASTER8 || u->mode == TT_UPDATE_WEIGHT16 || u->mode == TT_UPDATE_ACCUMULATE ||
            u->mode == TT_UPDATE_STORE);
}

// Rows of elements, one of each channel: `count` elements from `index` on, `step` elements and `sums_step` sums apart.
typedef struct tt_mve_rows {
    const int32_t *sums;  // exact, or reduced by total_shift
    uint32_t index, step;
    int32_t sums_step, count;
} tt_mve_rows;

// int8 weights with masters: w - delta in 2^-8, held within +-127 steps. Tail-predicated.
TT_INNER_LOOP static void tt_mve_update_master8(const tt_update *u, const tt_mve_rates *rates, int32_t channels,
                                                tt_mve_rows rows) {
    const int32x4_t high = vdupq_n_s32(127 * 256), low = vnegq_s32(high);
    for (int32_t i = 0; i < channels; i++, rows.index += rows.step, rows.sums += rows.sums_step) {
        int8_t *weights = (int8_t *)u->parameter + rows.index, *masters = (int8_t *)u->master + rows.index;
        const int32_t *sums = rows.sums;
        const int32x4_t mantissa = vdupq_n_s32(rates->mantissa[i]);
        int32x4_t delta, fine, weight;
        __asm__ volatile(
            "dlstp.32 lr, %[count]\n"
            "1:\n"
            "vldrw.u32 %q[delta], [%[sums]], #16\n"
            "vldrb.s32 %q[weight], [%[weights]]\n"
            "vqshl.s32 %q[delta], %[left]\n"
            "vldrb.s32 %q[fine], [%[masters]]\n"
            "vmulh.s32 %q[delta], %q[delta], %q[mantissa]\n"
            "vmla.s32 %q[fine], %q[weight], %[unit]\n"
            "vrshl.s32 %q[delta], %[shift]\n"
            "vsub.i32 %q[fine], %q[fine], %q[delta]\n"
            "vmin.s32 %q[fine], %q[fine], %q[high]\n"
            "vmax.s32 %q[fine], %q[fine], %q[low]\n"
            "vstrb.32 %q[fine], [%[masters]], #4\n"  // the low byte is what remains beside the rounded weight
            "vrshr.s32 %q[weight], %q[fine], #8\n"
            "vstrb.32 %q[weight], [%[weights]], #4\n"
            "letp lr, 1b\n"
            : [weights] "+l"(weights), [masters] "+l"(masters), [sums] "+r"(sums), [delta] "=&w"(delta),
              [fine] "=&w"(fine), [weight] "=&w"(weight)
            : [count] "r"(rows.count), [left] "r"(rates->left[i]), [shift] "r"(rates->shift[i]), [unit] "r"(256),
              [mantissa] "w"(mantissa), [high] "w"(high), [low] "w"(low)
            : "lr", "memory");
    }
}

// int16 weights: w - delta, held within +-127 * 256.
TT_INNER_LOOP static void tt_mve_update_weight16(const tt_update *u, const tt_mve_rates *rates, int32_t channels,
                                                 tt_mve_rows rows) {
    const int32x4_t high = vdupq_n_s32(127 * 256), low = vnegq_s32(high);
    for (int32_t i = 0; i < channels; i++, rows.index += rows.step, rows.sums += rows.sums_step) {
        int16_t *weights = (int16_t *)u->parameter + rows.index;
        for (int32_t done = 0; done < rows.count; done += 4) {
            const mve_pred16_t some = vctp32q((uint32_t)(rows.count - done));
            const int32x4_t delta = tt_mve_delta(vldrwq_z_s32(rows.sums + done, some), rates, i);
            const int32x4_t fine = vsubq_s32(vldrhq_z_s32(weights + done, some), delta);
            vstrhq_p_s32(weights + done, vmaxq_s32(vminq_s32(fine, high), low), some);
        }
    }
}

// Accumulators; `channel` is the first of the rates. A delta of 2^28 or more may be a saturated one.
TT_INNER_LOOP static void tt_mve_accumulate(const tt_update *u, const tt_mve_rates *rates, int32_t channel,
                                            int32_t channels, tt_mve_rows rows) {
    for (int32_t i = 0; i < channels; i++, rows.index += rows.step, rows.sums += rows.sums_step) {
        int32_t *to = u->accumulator + rows.index;
        for (int32_t done = 0; done < rows.count; done += 4) {
            const mve_pred16_t some = vctp32q((uint32_t)(rows.count - done));
            const int32x4_t delta = tt_mve_delta(vldrwq_z_s32(rows.sums + done, some), rates, i);
            if (vmaxavq_s32(0, delta) < 1U << 28) {
                vstrwq_p_s32(to + done, vqaddq_s32(vldrwq_z_s32(to + done, some), delta), some);
                continue;
            }
            const tt_rate rate = tt_rate_of_channel(u, channel + i);
            for (int32_t k = done; k < tt_min(done + 4, rows.count); k++) {
                const int64_t product = (int64_t)rows.sums[k] * rate.mantissa;
                const int64_t exact = tt_rounding_shift(product, 31 - rate.exponent - u->total_shift);
                to[k] = tt_saturating_add(to[k], tt_saturate32(exact));
            }
        }
    }
}

// Of the first `channels` of the rates, which begin with `channel`; moves on to the rows behind them.
static inline void tt_mve_update_rows(const tt_update *u, const tt_mve_rates *rates, int32_t channel, int32_t channels,
                                      tt_mve_rows *rows) {
    if (u->mode == TT_UPDATE_MASTER8) {
        tt_mve_update_master8(u, rates, channels, *rows);
    } else if (u->mode == TT_UPDATE_WEIGHT16) {
        tt_mve_update_weight16(u, rates, channels, *rows);
    } else if (u->mode == TT_UPDATE_ACCUMULATE) {
        tt_mve_accumulate(u, rates, channel, channels, *rows);
    } else {
        for (int32_t i = 0; i < channels; i++) {
            int32_t *to = u->accumulator + rows->index + (uint32_t)i * rows->step;
            memcpy(to, rows->sums + i * rows->sums_step, (size_t)rows->count * sizeof *to);
        }
    }
    rows->index += (uint32_t)channels * rows->step;
    rows->sums += channels * rows->sums_step;
}

// Does tt_mve_update_channels know what to do with this update?
static inline int tt_mve_updates_channels(const tt_update *u) {
    return u->clip == 0 && u->decay_multiplier == 0 &&
           (u->mode == TT_UPDATE_MASTER8 || u->mode == TT_UPDATE_BIAS || u->mode == TT_UPDATE_ACCUMULATE);
}

// Four elements, or as many as `some` says: biases with masters of 16 bits, or accumulators. Returns 0 and does nothing
// where a change or an element is so large that more than 32 bits may be needed.
static inline int tt_mve_update_words(const tt_update *u, uint32_t index, int32x4_t delta, mve_pred16_t some) {
    int32_t *whole = (u->mode == TT_UPDATE_BIAS ? (int32_t *)u->parameter : u->accumulator) + index;
    const int32x4_t old = vldrwq_z_s32(whole, some);
    if (vmaxvq_u32(0, vmaxaq_s32(vmaxaq_s32(vdupq_n_u32(0), delta), old)) >= 1U << 28) { return 0; }
    if (u->mode == TT_UPDATE_ACCUMULATE) {
        vstrwq_p_s32(whole, vaddq_s32(old, delta), some);
        return 1;
    }
    int16_t *masters = (int16_t *)u->master + index;
    const int32x4_t fine = vsubq_s32(vldrhq_z_s32(masters, some), delta);
    vstrhq_p_s32(masters, fine, some);  // the low half is what remains beside the rounded part that moves on
    vstrwq_p_s32(whole, vaddq_s32(old, vrshrq_n_s32(fine, 16)), some);
    return 1;
}

// The same of int8 weights with masters; there nothing is too large.
static inline void tt_mve_update_bytes(const tt_update *u, uint32_t index, int32x4_t delta, mve_pred16_t some) {
    int8_t *weights = (int8_t *)u->parameter + index, *masters = (int8_t *)u->master + index;
    const int32x4_t limit = vdupq_n_s32(127 * 256);
    const int32x4_t old = vmlaq_n_s32(vldrbq_z_s32(masters, some), vldrbq_z_s32(weights, some), 256);
    const int32x4_t fine = vmaxq_s32(vminq_s32(vsubq_s32(old, delta), limit), vnegq_s32(limit));
    vstrbq_p_s32(masters, fine, some);
    vstrbq_p_s32(weights, vrshrq_n_s32(fine, 8), some);
}

// `count` neighbouring elements from `index` on, of the channels from `channel` on, each with a rate of its own. Sums
// are exact, or reduced by total_shift.
static inline void tt_mve_update_channels(const tt_update *u, int32_t channel, uint32_t index, int32_t count,
                                          const int32_t *sums) {
    const int32_t exponent = tt_mve_rate_exponent(u);
    for (int32_t done = 0; done < count; done += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)(count - done));
        const tt_mve_rate_lanes rates = tt_mve_rate_lanes_of(u, channel + done, exponent, some);
        const int32x4_t raised = vqshlq_s32(vldrwq_z_s32(sums + done, some), rates.left);
        const int32x4_t delta = vrshlq_s32(vmulhq_s32(raised, rates.mantissa), rates.shift);
        if (u->mode == TT_UPDATE_MASTER8) {
            tt_mve_update_bytes(u, index + (uint32_t)done, delta, some);
        } else if (!tt_mve_update_words(u, index + (uint32_t)done, delta, some)) {
            for (int32_t i = done; i < tt_min(done + 4, count); i++) {
                const tt_rate rate = tt_rate_of_channel(u, channel + i);
                const int64_t total = (int64_t)sums[i] * ((int64_t)1 << u->total_shift);  // reduces to the sum
                tt_update_element(u, &rate, index + (uint32_t)i, total);
            }
        }
    }
}

#endif
