// SPDX-License-Identifier: Apache-2.0
// Helium (MVE): from exact sums to int8 outputs, four lanes at a time, and bytes that move.
//
// Requantization with two roundings: VQRDMULH is floor((2 a b + 2^31) / 2^32), the first rounding; it saturates only
// for -2^31 times -2^31, and multipliers are not negative. The second rounds ties away from zero: VRSHL rounds them up,
// so negative values become one less first. Where the clamp makes every negative value its lower bound, that can be
// left out.
#ifndef TINYTRAIN_MVE_H
#define TINYTRAIN_MVE_H

#ifndef __OPTIMIZE__
#error "kernels for Helium need a compiler that optimizes (-O1, -O2, -Os): their assembly takes every register"
#endif

#include <arm_mve.h>

#include "tinytrain/output.h"

// How sums of four channels become outputs: what the channels allow.
enum tt_style {
    TT_STYLE_RELU,    // the clamp leaves no negative value, no shift to the left; a bias can be part of the sum
    TT_STYLE_SIGNED,  // every shift to the right; a bias can be part of the sum
    TT_STYLE_ANY,
    TT_STYLE_SINGLE,  // one rounding
};

// Four neighbouring output channels, or `count` of them.
typedef struct tt_quad {
    int32x4_t multiplier;
    int32x4_t shift;
    int32_t channel, count;
    int32_t style, unused;
    int32x4_t start;       // of their sums: bias and zero point; TT_STYLE_ANY: zero point alone
    int32x4_t bias;        // TT_STYLE_ANY: to be added with saturation; else as `start`: loops load both at once
} tt_quad;

// The largest bias whose magnitude, added to a sum of so many products of a weight and an activation less its zero
// point, fits 32 bits; negative if there is none.
static inline int32_t tt_largest_bias(int32_t products) {
    return products <= INT32_MAX / (255 * 128) ? INT32_MAX - 255 * 128 * products : -1;
}

// A bias so far out that a sum with it may saturate, as near-dead channels have it: if the smallest and the largest sum
// give the same output, any bias, multiplier and shift that give this output will do; 1 if so.
static inline int tt_constant_lane(const tt_output *o, int32_t channel, int32_t largest_bias, int32_t *bias,
                                   int32_t *multiplier, int32_t *shift) {
    const int32_t largest_sum = INT32_MAX - largest_bias;
    if (*shift > 0 || largest_sum >= (1 << 21) - 2) { return 0; }  // steps of 2^22: a sum is less than half of one
    const int32_t y = tt_output_of(o, largest_sum, channel);
    if (y != tt_output_of(o, -largest_sum, channel)) { return 0; }
    *bias = (y - o->zero_point) * (1 << 22);
    *multiplier = 1 << 30;
    *shift = -21;
    return 1;
}

// Makes constants of channels with a far bias; 1 if that is possible.
static inline int tt_constant_lanes(const tt_output *o, int32_t largest_bias, tt_quad *quad) {
    int32_t bias[4], multiplier[4], shift[4];
    vst1q_s32(bias, quad->bias);
    vst1q_s32(multiplier, quad->multiplier);
    vst1q_s32(shift, quad->shift);
    for (int32_t i = 0; i < quad->count; i++) {
        const int far = bias[i] > largest_bias || bias[i] < -largest_bias;
        if (far && !tt_constant_lane(o, quad->channel + i, largest_bias, &bias[i], &multiplier[i], &shift[i])) {
            return 0;
        }
    }
    quad->bias = vld1q_s32(bias);
    quad->multiplier = vld1q_s32(multiplier);
    quad->shift = vld1q_s32(shift);
    return 1;
}

// zero_sums: what the zero point of x takes from each sum. largest_bias: of those that can be part of a sum.
static inline tt_quad tt_quad_of(const tt_output *o, int32_t channel, int32_t count, int32x4_t zero_sums,
                                 int32_t largest_bias) {
    const mve_pred16_t lanes = vctp32q((uint32_t)count);
    const int32x4_t bias = vldrwq_z_s32(o->bias + channel, lanes), shift = vldrbq_z_s32(o->shift + channel, lanes);
    const int32x4_t multiplier = vldrwq_z_s32(o->multiplier + channel, lanes);
    tt_quad quad = {multiplier, shift, channel, count, TT_STYLE_ANY, 0, zero_sums, bias};
    if (o->single_rounding) {
        quad.style = TT_STYLE_SINGLE;
        return quad;
    }
    if (largest_bias < 0 || count < 4) { return quad; }
    const int far = vmaxavq_s32(0, bias) > (uint32_t)largest_bias;
    if (far && !tt_constant_lanes(o, largest_bias, &quad)) { return quad; }
    quad.shift = vdupq_m_n_s32(quad.shift, -1, vcmpeqq_n_s32(quad.multiplier, 0));  // 0 stays 0
    const int32_t most = vmaxvq_s32(-1, quad.shift);
    if (o->low >= o->zero_point && most <= 0) {
        quad.style = TT_STYLE_RELU;
    } else if (most < 0) {
        quad.style = TT_STYLE_SIGNED;
    } else {
        return quad;
    }
    quad.start = vaddq_s32(quad.bias, zero_sums);
    quad.bias = quad.start;
    return quad;
}

// Of two vectors of sums, in registers of these names, to bytes in the 16-bit lanes of `a`: its outputs in the even
// ones, those of `b` beside them. Clamps to int8. `sign`: what TT_STYLE_SIGNED does before the shift. zero_point: a
// register.
#define TT_NARROW(a, b, multiplier, shift, zero_point, sign)                                                           \
    "vqrdmulh.s32 " a ", " a ", " multiplier "\n\t"                                                                    \
    "vqrdmulh.s32 " b ", " b ", " multiplier "\n\t" sign                                                               \
    "vrshl.s32 " a ", " a ", " shift "\n\t"                                                                            \
    "vrshl.s32 " b ", " b ", " shift "\n\t"                                                                            \
    "vqmovnb.s32 " a ", " a "\n\t"                                                                                     \
    "vqmovnt.s32 " a ", " b "\n\t"                                                                                     \
    "vqadd.s16 " a ", " a ", " zero_point "\n\t"                                                                       \
    "vqmovnb.s16 " a ", " a "\n\t"
// VQDMLAH times 1 adds the high word of a value's double: -1 where it is negative.
#define TT_SIGN_FIX(a, b, one) "vqdmlah.s32 " a ", " a ", " one "\n\tvqdmlah.s32 " b ", " b ", " one "\n\t"

// Clamps outputs that are within int8, where the clamp is narrower.
static inline void tt_clamp_all(const tt_output *o, int8_t *y, int32_t count) {
    if (o->low == INT8_MIN && o->high == INT8_MAX) { return; }
    const int8x16_t low = vdupq_n_s8((int8_t)o->low), high = vdupq_n_s8((int8_t)o->high);
    for (; count > 0; count -= 16, y += 16) {
        const mve_pred16_t some = vctp8q((uint32_t)count);
        vstrbq_p_s8(y, vminq_s8(vmaxq_s8(vldrbq_z_s8(y, some), low), high), some);
    }
}

// Outputs of two roundings and any shift.
TT_ALWAYS_INLINE static inline void tt_store_any(tt_output o, tt_quad q, int32x4_t sums, int8_t *y) {
    const int32x4_t total = q.style >= TT_STYLE_ANY ? vqaddq_s32(sums, q.bias) : sums;
    const int32x4_t zero = vdupq_n_s32(0), left = vmaxq_s32(q.shift, zero), right = vminq_s32(q.shift, zero);
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(total, left), q.multiplier);
    const int32x4_t value = vrshlq_s32(vaddq_s32(high, vshrq_n_s32(vandq_s32(high, right), 31)), right);
    const int32x4_t shifted = vqaddq_n_s32(value, o.zero_point);
    const int32x4_t clamped = vminq_s32(vmaxq_s32(shifted, vdupq_n_s32(o.low)), vdupq_n_s32(o.high));
    vstrbq_p_s32(y, clamped, vctp32q((uint32_t)q.count));
}

__attribute__((noinline, unused)) static void tt_store_single(const tt_output *o, const tt_quad *q, int32x4_t sums,
                                                              int8_t *y) {
    int32_t lanes[4];
    vst1q_s32(lanes, sums);
    for (int32_t i = 0; i < q->count; i++) { y[i] = tt_output_of(o, lanes[i], q->channel + i); }
}

// Outputs of one pixel, of any style. Sums lack what the zero point takes.
TT_ALWAYS_INLINE static inline void tt_store_quad(const tt_output *o, const tt_quad *q, int32x4_t sums, int8_t *y) {
    const int32x4_t all = vaddq_s32(sums, q->start);
    if (q->style == TT_STYLE_SINGLE) {
        tt_store_single(o, q, all, y);
    } else {
        tt_store_any(*o, *q, all, y);
    }
}

// Four sums side by side: two moves, where lane by lane it would be four.
TT_ALWAYS_INLINE static inline int32x4_t tt_lanes(int32_t a, int32_t b, int32_t c, int32_t d) {
    int32x4_t lanes;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n\tvmov %q0[3], %q0[1], %2, %4"
            : "=&w"(lanes)
            : "r"(a), "r"(b), "r"(c), "r"(d));
    return lanes;
}

// Where two outputs' four channels go, each channel's outputs side by side in 16-bit lanes.
static inline uint16x8_t tt_places_of(int32_t step) {
    const uint16x8_t index = vidupq_n_u16(0, 1), second = vandq_u16(index, vdupq_n_u16(1));
    return vmlaq_n_u16(vshrq_n_u16(index, 1), second, (uint16_t)step);
}

static inline void tt_copy_bytes(int8_t *to, const int8_t *from, int32_t count) {
    __asm__ volatile(
        "wlstp.8 lr, %2, 2f\n"
        "1: vldrb.8 q0, [%1], #16\n\t"
        "vstrb.8 q0, [%0], #16\n\t"
        "letp lr, 1b\n"
        "2:"
        : "+r"(to), "+r"(from) : "r"(count) : "lr", "q0", "memory");
}

static inline void tt_fill_bytes(int8_t *to, int8x16_t values, int32_t count) {
    __asm__ volatile(
        "wlstp.8 lr, %1, 2f\n"
        "1: vstrb.8 %q2, [%0], #16\n\t"
        "letp lr, 1b\n"
        "2:"
        : "+r"(to) : "r"(count), "w"(values) : "lr", "memory");
}

#endif
