// SPDX-License-Identifier: Apache-2.0
// The integer arithmetic kernels are made of. The definition is tinytrain/ops/arithmetic.py: same bits, tested.
// Right shifts of negative numbers are arithmetic on every compiler we support (checked in executor.c).
#ifndef TINYTRAIN_ARITHMETIC_H
#define TINYTRAIN_ARITHMETIC_H

#include "tinytrain/types.h"

static inline int32_t tt_min(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t tt_max(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t tt_clamp(int32_t x, int32_t low, int32_t high) { return x < low ? low : (x > high ? high : x); }

static inline int64_t tt_clamp64(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : (x > high ? high : x);
}

static inline int32_t tt_saturate32(int64_t x) { return (int32_t)tt_clamp64(x, INT32_MIN, INT32_MAX); }

static inline int32_t tt_saturating_add(int32_t a, int32_t b) {
    const int32_t sum = (int32_t)((uint32_t)a + (uint32_t)b);
    const int overflow = ((a ^ sum) & (b ^ sum)) < 0;  // both operands have the sign the sum has not
    return overflow ? (a < 0 ? INT32_MIN : INT32_MAX) : sum;
}

// x / 2^exponent to nearest, ties away from zero; 0 <= exponent <= 31.
static inline int32_t tt_rounding_divide_by_power_of_two(int32_t x, int32_t exponent) {
    const int32_t mask = (int32_t)((1U << exponent) - 1U);
    const int32_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (x >> exponent) + ((x & mask) > threshold ? 1 : 0);
}

// round(x * multiplier * 2^(shift - 31)) with two roundings, as gemmlowp. multiplier >= 0, -31 <= shift <= 30.
// gemmlowp truncates (product +- nudge) / 2^31 toward zero; that is the floor of (product + 2^30) / 2^31 for either
// sign.
static inline int32_t tt_requantize_double(int32_t x, int32_t multiplier, int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    const int64_t product = (int64_t)(int32_t)((uint32_t)x << left) * multiplier;
    return tt_rounding_divide_by_power_of_two((int32_t)((product + (1 << 30)) >> 31), left - shift);
}

// floor(x * multiplier * 2^(shift - 31) + 1/2), saturated to 32 bits: one rounding. -31 <= shift <= 30.
static inline int32_t tt_requantize_single(int32_t x, int32_t multiplier, int32_t shift) {
    const int32_t right = 31 - shift;
    return tt_saturate32(((int64_t)x * multiplier + ((int64_t)1 << (right - 1))) >> right);
}

// value + zero_point, clamped; no sum overflows. The clamp lies within int8.
static inline int8_t tt_clamped_output(int32_t value, int32_t zero_point, int32_t low, int32_t high) {
    return (int8_t)(tt_clamp(value, low - zero_point, high - zero_point) + zero_point);
}

static inline int32_t tt_requantize(int32_t x, int32_t multiplier, int32_t shift, int32_t single_rounding) {
    return single_rounding ? tt_requantize_single(x, multiplier, shift) : tt_requantize_double(x, multiplier, shift);
}

// floor(x / 2^right + 1/2) for right > 0, 0 from 63 on; x * 2^-right saturated to +-2^62 for right <= 0.
static inline int64_t tt_rounding_shift(int64_t x, int32_t right) {
    if (right > 62) { return 0; }
    if (right > 0) { return (x >> right) + ((x >> (right - 1)) & 1); }
    const int32_t up = right < -62 ? 62 : -right;
    const int64_t limit = ((int64_t)1 << 62) >> up;
    if (x > limit) { return (int64_t)1 << 62; }
    if (x < -limit) { return -((int64_t)1 << 62); }
    return x * ((int64_t)1 << up);
}

// Word `index` of the random words behind a key.
static inline uint32_t tt_hash(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7FEB352DU;
    x ^= x >> 15;
    x *= 0x846CA68BU;
    return x ^ (x >> 16);
}

static inline uint32_t tt_random_word(uint32_t key, uint32_t index) { return tt_hash(index * 0x9E3779B9U + key); }

// x / 2^right, rounded up with the probability of its fraction; |x| <= 2^62. Nothing is to be rounded for right <= 0.
static inline int64_t tt_stochastic_shift(int64_t x, int32_t right, uint32_t word) {
    if (right <= 0) { return tt_rounding_shift(x, right); }
    if (right > 61) {  // so that x and noise fit 63 bits
        x >>= tt_min(right - 61, 63);
        right = 61;
    }
    const int64_t noise = word;
    return (x + (right >= 32 ? noise * ((int64_t)1 << (right - 32)) : noise >> (32 - right))) >> right;
}

static inline uint64_t tt_magnitude(int64_t x) { return x < 0 ? 0U - (uint64_t)x : (uint64_t)x; }

static inline int32_t tt_bit_length(uint64_t x) {
    int32_t length = 0;
    for (; x != 0; x >>= 1) { length++; }
    return length;
}

// --- block floating point: the exponent of a gradient tensor ---

enum { TT_EXPONENT_MIN = -96, TT_EXPONENT_MAX = 96, TT_PEAK_DECAY = 58982 };

static inline int32_t tt_exponent_of(const tt_exponent *state, int32_t offset) {
    return (state != 0 ? state->exponent : 0) + offset;
}

// Start a step: forget a tenth of the peak, choose the exponent that leaves one bit of headroom above the rest in
// mantissas of so many bits.
static inline int32_t tt_exponent_begin(tt_exponent *state, int32_t bits) {
    if (state->peak_mantissa != 0) {
        int32_t mantissa = (int32_t)(((int64_t)state->peak_mantissa * TT_PEAK_DECAY) >> 16);
        if (mantissa < (1 << 30)) {
            mantissa *= 2;
            state->peak_exponent--;
        }
        state->peak_mantissa = mantissa;
        state->exponent = tt_clamp(state->peak_exponent + 31 - (bits - 2), TT_EXPONENT_MIN, TT_EXPONENT_MAX);
    }
    return state->exponent;
}

// Finish a step: the largest |value| before saturation was magnitude * 2^exponent.
static inline void tt_exponent_end(tt_exponent *state, uint64_t magnitude, int32_t exponent) {
    if (magnitude == 0) { return; }
    const int32_t length = tt_bit_length(magnitude);
    const int32_t mantissa = (int32_t)(length > 31 ? magnitude >> (length - 31) : magnitude << (31 - length));
    exponent += length - 31;
    if (state->peak_mantissa == 0 || exponent > state->peak_exponent ||
        (exponent == state->peak_exponent && mantissa > state->peak_mantissa)) {
        state->peak_mantissa = mantissa;
        state->peak_exponent = exponent;
    }
}

#endif
