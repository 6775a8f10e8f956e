// SPDX-License-Identifier: Apache-2.0
// From exact sums to int8 outputs, on cores with the DSP instructions: tinytrain/output.h in six instructions.
#ifndef TINYTRAIN_DSP_OUTPUT_H
#define TINYTRAIN_DSP_OUTPUT_H

#include "tinytrain/dsp.h"
#include "tinytrain/output.h"

// What brings a channel's sums to its outputs: y = (t + addend - (sum < 0)) >> right, t = round(2 total * multiplier / 2^32).
// The addend holds half of 2^right and the zero point. Where right is 0, this does not hold and tt_output_of is to be
// taken: for shifts that leave no second rounding, for totals or addends that may pass 30 bits, for single rounding.
typedef struct tt_channel {
    int32_t twice_bias, multiplier, addend, right;
} tt_channel;

enum { TT_MOST_RIGHT = 22 };  // so that the zero point, raised by it, is below 2^30

// Biases from its negative on and below it leave totals of 30 bits: 2^30 less the largest sum of so many products of a
// weight and an input.
static inline int32_t tt_bias_limit(const tt_output *o, int32_t products) {
    return products < 16384 && !o->single_rounding ? (1 << 30) - products * 255 * 128 : 0;
}

static inline void tt_set_channel(tt_channel *c, const tt_output *o, int32_t channel, int32_t bias_limit) {
    const int32_t bias = o->bias[channel], right = -o->shift[channel];
    c->right = 0;
    if ((uint32_t)(right - 1) < TT_MOST_RIGHT && (uint32_t)(bias + bias_limit) < 2 * (uint32_t)bias_limit) {
        c->twice_bias = 2 * bias;
        c->multiplier = o->multiplier[channel];
        c->addend = (2 * o->zero_point + 1) * (1 << (right - 1));
        c->right = right;
    }
}

// An output before its clamp. Below zero ties go away from zero: one less is added. The total's sign will do: where it
// is negative and t is 0, both addends round to the same.
static inline int32_t tt_unclamped(const tt_channel *c, int32_t sum) {
    int32_t twice_total, t;
    __asm__("qdadd %0, %1, %2" : "=r"(twice_total) : "r"(c->twice_bias), "r"(sum));
    __asm__("smmlar %0, %1, %2, %3" : "=r"(t) : "r"(twice_total), "r"(c->multiplier), "r"(c->addend));
    return (t + (twice_total >> 31)) >> c->right;
}

static inline int8_t tt_fast_output(const tt_channel *c, int32_t sum) {
    int32_t y;
    __asm__("ssat %0, #8, %1" : "=r"(y) : "r"(tt_unclamped(c, sum)));
    return (int8_t)y;
}

// `count` outputs of any channel, `step` bytes apart.
TT_INNER_LOOP static void tt_store_any(const tt_output *o, const tt_channel *c, int32_t index, const int32_t *sums, int8_t *y,
                                int32_t step, int32_t count) {
    for (int32_t i = 0; i < count; i++, y += step) {
        *y = c->right != 0 ? tt_fast_output(c, sums[i]) : tt_output_of(o, sums[i], index);
    }
}

// What is left to do where the clamp is narrower than int8: all outputs, four at a time.
static inline void tt_clamp_outputs(const tt_output *o, int8_t *y, int32_t count) {
    if (o->low <= INT8_MIN && o->high >= INT8_MAX) { return; }
    const uint32_t low = (uint32_t)(o->low & 0xFF) * 0x01010101U, high = (uint32_t)(o->high & 0xFF) * 0x01010101U;
    for (; count >= 4; count -= 4, y += 4) {
        const uint32_t word = tt_smaller_bytes(tt_larger_bytes(tt_load_bytes(y), low), high);
        memcpy(y, &word, sizeof word);
    }
    for (; count > 0; count--, y++) { *y = (int8_t)tt_clamp(*y, o->low, o->high); }
}

#endif
