// SPDX-License-Identifier: Apache-2.0
// From exact sums to int8 outputs, on cores with the DSP instructions: tinytrain/output.h in six instructions.
#ifndef TINYTRAIN_DSP_OUTPUT_H
#define TINYTRAIN_DSP_OUTPUT_H

#include "tinytrain/dsp.h"
#include "tinytrain/output.h"

// What brings a channel's sums to its outputs: y = (t + addend - (sum < 0)) >> right, t = round(2 total * multiplier /
// 2^32). The addend holds half of 2^right and the zero point. Where right is 0, this does not hold and tt_output_of is
// to be taken: for shifts that leave no second rounding, for totals or addends that may pass 30 bits, for single
// rounding.
typedef struct tt_channel {
    int32_t twice_bias, multiplier, addend, right;
} tt_channel;

enum { TT_MOST_RIGHT = 22, TT_MOST_PRODUCTS = 16383, TT_LARGEST_PRODUCT = 255 * 128 };

// Of any channel.
TT_INNER_LOOP static int8_t tt_any_output(const tt_output *o, int32_t sum, int32_t channel) {
    return tt_output_of(o, sum, channel);
}

// A channel without this form may still have one output whatever its sum, so far outside lies its bias, or so small are
// its weights: outputs never fall where sums rise. Such channels are not rare.
TT_INNER_LOOP static tt_channel tt_constant_channel(const tt_output *o, int32_t channel, int32_t products) {
    const tt_channel none = {0, 0, 0, 0};
    if (o->single_rounding || products > TT_MOST_PRODUCTS || o->shift[channel] > 0) { return none; }
    const int32_t largest = products * TT_LARGEST_PRODUCT, y = tt_any_output(o, largest, channel);
    const tt_channel constant = {0, 0, 4 * y + 2, 2};
    return tt_any_output(o, -largest, channel) == y ? constant : none;
}

// What all channels of a kernel have in common.
typedef struct tt_channels {
    const tt_output *output;
    const int8_t *shift;
    const int32_t *bias, *multiplier;
    uint32_t limit;      // biases from -limit to limit - 1 have the form; none where it is 0
    int32_t twice_zero;  // and one
    int32_t products;    // of weights and inputs in a sum
} tt_channels;

static inline tt_channels tt_channels_of(const tt_output *o, int32_t products) {
    const int any = !o->single_rounding && products <= TT_MOST_PRODUCTS;
    const tt_channels all = {o, o->shift, o->bias, o->multiplier,
                             any ? (1U << 30) - (uint32_t)products * TT_LARGEST_PRODUCT : 0, 2 * o->zero_point + 1,
                             products};
    return all;
}

static inline uint32_t tt_right_less_one(int32_t shift) { return ~(uint32_t)shift; }

static inline int tt_is_fast(const tt_channels *all, uint32_t right_less_one, uint32_t bias) {
    return right_less_one < TT_MOST_RIGHT && bias + all->limit < 2 * all->limit;
}

static inline void tt_set_channel(tt_channel *c, const tt_channels *all, int32_t channel) {
    const int32_t bias = all->bias[channel];
    const uint32_t less = tt_right_less_one(all->shift[channel]);
    if (tt_is_fast(all, less, (uint32_t)bias)) {
        c->twice_bias = 2 * bias;
        c->multiplier = all->multiplier[channel];
        c->addend = all->twice_zero * (1 << less);
        c->right = (int32_t)less + 1;
    } else {
        *c = tt_constant_channel(all->output, channel, all->products);
    }
}

// The output of twice a total. Below zero ties go away from zero: one less is added. The total's sign will do: where it
// is negative and t is 0, both addends round to the same.
//
// Where the clamp leaves no value below the zero point, this one less can be left out: of a negative total t is not
// positive, so that floor((t + 2^(right - 1)) / 2^right) is not either. With it or without, what is clamped is the zero
// point at most, and becomes the clamp's lower bound.
static inline int8_t tt_output_of_twice(const tt_channel *c, int32_t twice_total) {
    int32_t t, y;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(t) : "r"(twice_total), "r"(c->multiplier), "r"(c->addend));
    __asm__("ssat %0, #8, %1" : "=r"(y) : "r"((t + (twice_total >> 31)) >> c->right));
    return (int8_t)y;
}

static inline int8_t tt_fast_output(const tt_channel *c, int32_t sum) {
    int32_t twice_total;
    __asm__("qdadd %0, %1, %2" : "=r"(twice_total) : "r"(c->twice_bias), "r"(sum));
    return tt_output_of_twice(c, twice_total);
}

// What is left to do where the clamp is narrower than int8: all outputs, four at a time.
TT_INNER_LOOP static void tt_clamp_outputs(const tt_output *o, int8_t *y, int32_t count) {
    if (o->low <= INT8_MIN && o->high >= INT8_MAX) { return; }
    const uint32_t low = (uint32_t)(o->low & 0xFF) * 0x01010101U, high = (uint32_t)(o->high & 0xFF) * 0x01010101U;
    for (; count >= 4; count -= 4, y += 4) {
        const uint32_t word = tt_smaller_bytes(tt_larger_bytes(tt_load_bytes(y), low), high);
        memcpy(y, &word, sizeof word);
    }
    for (; count > 0; count--, y++) { *y = (int8_t)tt_clamp(*y, o->low, o->high); }
}

#endif
