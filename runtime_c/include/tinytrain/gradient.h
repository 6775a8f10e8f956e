// SPDX-License-Identifier: Apache-2.0
// Mantissas of gradient tensors, 16 or 8 bits wide. Kernels of both widths are one text (tinytrain/gradients/); a
// source file for 8 bits defines TT_GRADIENT_BITS as 8 before it includes that. 16 bits are rounded half up, 8 bits
// stochastically: half up would lose what is small for good.
#ifndef TINYTRAIN_GRADIENT_H
#define TINYTRAIN_GRADIENT_H

#include "tinytrain/arithmetic.h"

#ifndef TT_GRADIENT_BITS
#define TT_GRADIENT_BITS 16
#endif

#if TT_GRADIENT_BITS == 8
typedef int8_t tt_mantissa;
#else
typedef int16_t tt_mantissa;
#endif

enum {
    TT_MANTISSA_MAX = (1 << (TT_GRADIENT_BITS - 1)) - 1,
    TT_MANTISSA_MIN = -TT_MANTISSA_MAX - 1,
    TT_SPARE_BITS = 16 - TT_GRADIENT_BITS,  // by which a scaled gradient in int16 is finer than its mantissas
};

// gy * factor, a factor of 15 fractional bits up to 1, as an int16 that is TT_SPARE_BITS finer than gy.
static inline int32_t tt_scaled_gradient(int32_t gy, int32_t factor) {
    return (gy * factor + (1 << (14 - TT_SPARE_BITS))) >> (15 - TT_SPARE_BITS);
}

// From exact values to the mantissas of one gradient tensor in one step.
typedef struct tt_rounding {
    int32_t right;  // from the values' unit to the mantissas'
    uint32_t key;   // of the random words
} tt_rounding;

// Of the random words of a step, from a peak that no two steps share.
static inline uint32_t tt_rounding_key(const tt_exponent *state) {
    return tt_hash((uint32_t)state->peak_mantissa ^ ((uint32_t)state->peak_exponent * 0x9E3779B9U));
}

// Start a step of a gradient tensor whose values are in units of 2^values_exponent.
static inline tt_rounding tt_gradient_begin(tt_exponent *state, int32_t values_exponent) {
    const int32_t right = tt_exponent_begin(state, TT_GRADIENT_BITS) - values_exponent;
    const tt_rounding rounding = {right, tt_rounding_key(state)};
    return rounding;
}

// Element `index` of the tensor.
static inline tt_mantissa tt_to_mantissa(const tt_rounding *rounding, int64_t value, int32_t index) {
#if TT_GRADIENT_BITS == 8
    const uint32_t word = tt_random_word(rounding->key, (uint32_t)index);
    const int64_t rounded = tt_stochastic_shift(value, rounding->right, word);
#else
    const int64_t rounded = tt_rounding_shift(value, rounding->right);
    (void)index;
#endif
    return (tt_mantissa)tt_clamp64(rounded, TT_MANTISSA_MIN, TT_MANTISSA_MAX);
}

// The same of 32 bits. The shifts that occur take a fraction of the work on a 32-bit core.
static inline tt_mantissa tt_to_mantissa32(const tt_rounding *rounding, int32_t value, int32_t index) {
    const int32_t right = rounding->right, limit = 1 << 30;
    if (right <= 0 || right > 30 || value > limit || value < -limit) { return tt_to_mantissa(rounding, value, index); }
#if TT_GRADIENT_BITS == 8
    const uint32_t word = tt_random_word(rounding->key, (uint32_t)index);
    const int32_t rounded = (value + (int32_t)(word >> (32 - right))) >> right;
#else
    const int32_t rounded = (value >> right) + ((value >> (right - 1)) & 1);
#endif
    return (tt_mantissa)tt_clamp(rounded, TT_MANTISSA_MIN, TT_MANTISSA_MAX);
}

// Elements from `index` on; returns the largest magnitude.
static inline uint64_t tt_store_mantissas(const tt_rounding *rounding, const int32_t *values, int32_t count,
                                          int32_t index, tt_mantissa *mantissas) {
    uint64_t largest = 0;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t magnitude = tt_magnitude(values[i]);
        if (magnitude > largest) { largest = magnitude; }
        mantissas[i] = tt_to_mantissa32(rounding, values[i], index + i);
    }
    return largest;
}

// Exact sums as the elements from `index` on; returns the largest magnitude. The shifts that occur take no branches.
static inline uint64_t tt_store_sums(const tt_rounding *rounding, const int64_t *sums, int32_t count, int32_t index,
                                     tt_mantissa *mantissas) {
    const int32_t right = rounding->right;
    uint64_t largest = 0;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t magnitude = tt_magnitude(sums[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    if (right <= 0 || right > 61) {
        for (int32_t i = 0; i < count; i++) { mantissas[i] = tt_to_mantissa(rounding, sums[i], index + i); }
        return largest;
    }
    for (int32_t i = 0; i < count; i++) {
#if TT_GRADIENT_BITS == 8
        const int64_t word = tt_random_word(rounding->key, (uint32_t)(index + i));
        const int64_t noise = (word << tt_max(right - 32, 0)) >> tt_max(32 - right, 0);
        const int64_t rounded = (sums[i] + noise) >> right;
#else
        const int64_t rounded = (sums[i] >> right) + ((sums[i] >> (right - 1)) & 1);
#endif
        mantissas[i] = (tt_mantissa)tt_clamp64(rounded, TT_MANTISSA_MIN, TT_MANTISSA_MAX);
    }
    return largest;
}

#endif
