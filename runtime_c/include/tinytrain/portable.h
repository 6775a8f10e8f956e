// SPDX-License-Identifier: Apache-2.0
// What the kernels in kernels/portable/ share: the arithmetic of arithmetic.h where 32 bits are enough, prepared once
// per channel. Everything that is not prepared takes the general way.
#ifndef TINYTRAIN_PORTABLE_H
#define TINYTRAIN_PORTABLE_H

#include "tinytrain/output.h"

// One instruction that gcc does not find where the result is cast.
static inline int32_t tt_saturate8(int32_t x) {
#if defined(__ARM_FEATURE_SAT)
    __asm__("ssat %0, #8, %0" : "+r"(x));
    return x;
#else
    return tt_clamp(x, INT8_MIN, INT8_MAX);
#endif
}

static inline int32_t tt_clamp16(int32_t x) {
#if defined(__ARM_FEATURE_SAT)
    __asm__("ssat %0, #16, %0" : "+r"(x));
    return x;
#else
    return tt_clamp(x, INT16_MIN, INT16_MAX);
#endif
}

// floor((x y + 2^31) / 2^32), y >= 0
static inline int32_t tt_rounded_upper(int32_t x, int32_t y) {
#if defined(__ARM_ARCH_6M__)  // has no long multiplication
    const uint32_t x_low = (uint32_t)x & 0xFFFF, y_low = (uint32_t)y & 0xFFFF, y_high = (uint32_t)y >> 16;
    const int32_t first = (x >> 16) * (int32_t)y_low;
    const uint32_t second = x_low * y_high + ((x_low * y_low) >> 16);
    const uint32_t carry = (((uint32_t)first & 0xFFFF) + (second & 0xFFFF) + 0x8000) >> 16;
    return (x >> 16) * (int32_t)y_high + (first >> 16) + (int32_t)(second >> 16) + (int32_t)carry;
#else
    const int64_t product = (int64_t)x * y;
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}

// How the sums of one output channel become outputs. right = 0: by tt_output_of, with `start` for the zero point alone.
typedef struct tt_channel {
    int32_t start;       // of a sum
    int32_t multiplier;
    int32_t addend;      // half, and the zero point
    int32_t right;
} tt_channel;

// The output of every sum up to `largest` in magnitude, or INT32_MIN where they differ. Nearly dead channels have one:
// their scale is so small that their bias takes nearly 32 bits. More sum is never less output, unless the shift wraps.
static inline int32_t tt_constant_output(const tt_output *o, int32_t channel, int64_t largest) {
    if (o->shift[channel] > 0 || largest > INT32_MAX) { return INT32_MIN; }
    const int32_t low = tt_output_of(o, (int32_t)-largest, channel), high = tt_output_of(o, (int32_t)largest, channel);
    return low == high ? low : INT32_MIN;
}

// start: what the sum needs because x is taken as it is; largest: of |sum|. The fast way holds for the whole int8 range
// as clamp, where no sum passes 30 bits: then neither saturates the bias, nor does twice the total pass 32 bits.
static inline tt_channel tt_channel_of(const tt_output *o, int32_t channel, int32_t start, int64_t largest) {
    const int32_t right = -o->shift[channel];
    tt_channel fast = {start, o->multiplier[channel], 0, 0};
    const int64_t bias = o->bias[channel];
    const int whole = o->low == INT8_MIN && o->high == INT8_MAX;
    if (whole && !o->single_rounding && right >= 1 && right <= 22 && tt_magnitude(bias) + (uint64_t)largest < 1 << 30) {
        fast.start = (int32_t)(start + bias);
        fast.addend = (1 << (right - 1)) + o->zero_point * (1 << right);
        fast.right = right;
        return fast;
    }
    const int32_t constant = tt_constant_output(o, channel, largest);
    if (constant != INT32_MIN) { fast.start = 0, fast.multiplier = 0, fast.addend = 2 * constant, fast.right = 1; }
    return fast;
}

static inline int8_t tt_fast_output(const tt_channel *c, int32_t total) {
    const int32_t high = tt_rounded_upper(2 * total, c->multiplier);
    return (int8_t)tt_saturate8((high + (high >> 31) + c->addend) >> c->right);
}

// --- 16-bit mantissas of 32-bit sums ---

// The largest magnitude so far, below 2^31: rarely changed, so seen with one comparison.
static inline void tt_see(uint32_t *largest, int32_t value) {
    if ((uint32_t)value + *largest > 2 * *largest) { *largest = (uint32_t)tt_magnitude(value); }
}

// Half up, 1 <= right <= 31.
static inline int16_t tt_mantissa_of(int32_t value, int32_t right) {
    return (int16_t)tt_clamp16(((value >> (right - 1)) + 1) >> 1);
}

#endif
