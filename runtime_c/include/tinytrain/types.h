// SPDX-License-Identifier: Apache-2.0
// The types every part of the runtime shares.
#ifndef TINYTRAIN_TYPES_H
#define TINYTRAIN_TYPES_H

#include <stdint.h>

// Inner loops stay functions of their own: inlined into a kernel's outer loops they run out of registers. What they are
// made of is inlined into each of them, for a fixed number of lanes.
#if defined(__GNUC__)
#define TT_INNER_LOOP __attribute__((noinline))
#define TT_ALWAYS_INLINE __attribute__((always_inline))
#define TT_RARE __attribute__((noinline, cold, unused))  // small rather than fast
#else
#define TT_INNER_LOOP
#define TT_ALWAYS_INLINE
#define TT_RARE
#endif

typedef int32_t tt_status;
enum {
    TT_OK = 0,
    TT_BAD_ARGUMENT = 1,  // a label outside the classes, a learning rate that is not a number
    TT_BAD_STORE = 2,     // saved parameters that belong to another model, or are damaged
};

// The runtime inputs of a training step. A rate is mantissa * 2^(exponent - 31), its mantissa 0 or in [2^30, 2^31).
typedef struct tt_hyper {
    uint32_t mantissa;  // learning rate of one sample's gradient: that of the update divided by the batch's size
    int32_t exponent;
    uint32_t seed;
    uint32_t step;
    uint32_t update_mantissa;  // learning rate of an update
    int32_t update_exponent;
} tt_hyper;

// The power of two of a gradient tensor. It follows the magnitudes of earlier steps; peak = mantissa * 2^exponent.
typedef struct tt_exponent {
    int32_t exponent;
    int32_t peak_mantissa;  // 0, or in [2^30, 2^31)
    int32_t peak_exponent;
} tt_exponent;

// A sliding window over an image [H, W, C]. Padding below and to the right follows from the sizes.
typedef struct tt_window {
    int32_t x_height, x_width;
    int32_t y_height, y_width;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t pad_top, pad_left;
} tt_window;

// A rectangle of a weight's channels, stored on its own: [co_count, KH, KW, ci_count].
typedef struct tt_weight_block {
    const int8_t *weights;
    int32_t co_start, co_count;
    int32_t ci_start, ci_count;
} tt_weight_block;

// What an update changes.
enum tt_update_mode {
    TT_UPDATE_MASTER8 = 0,          // int8 weight, int8 master of 8 fractional bits
    TT_UPDATE_STOCHASTIC8 = 1,      // int8 weight, stochastic rounding
    TT_UPDATE_WEIGHT16 = 2,         // int16 weight in 2^-8 of an int8 step
    TT_UPDATE_BIAS = 3,             // int32 bias, int16 master of 16 fractional bits
    TT_UPDATE_BIAS_STOCHASTIC = 4,  // int32 bias, stochastic rounding
    TT_UPDATE_ACCUMULATE = 5,       // int32 accumulator
    TT_UPDATE_TRUNCATE8 = 6,        // int8 weight, rounded toward zero
    TT_UPDATE_TRUNCATE16 = 7,       // int16 weight in 2^-8 of an int8 step, rounded toward zero
    TT_UPDATE_TRUNCATE_BIAS = 8,    // int32 bias, rounded toward zero
    TT_UPDATE_STORE = 9,            // int32 gradient for an update rule of its own
    TT_UPDATE_STOCHASTIC16 = 10,    // int16 weight in 2^-8 of an int8 step, stochastic rounding
};

// The running mean of a gradient's largest element, mantissa * 2^exponent.
typedef struct tt_clip {
    int32_t mantissa;  // 0 (no gradient seen yet), or in [2^30, 2^31)
    int32_t exponent;
    int32_t count;     // of gradients seen, 32 at most
} tt_clip;

// How a sum of gradient products becomes a change of a parameter (docs/arithmetic.md, "Updates").
typedef struct tt_update {
    void *parameter;             // int8_t, int16_t or int32_t elements by mode; NULL when accumulating
    void *master;                // int8_t or int16_t elements, or NULL
    int32_t *accumulator;        // or NULL
    const tt_hyper *hyper;
    const int32_t *multiplier;   // per channel, 0 or in [2^30, 2^31)
    const int16_t *shift;        // per channel
    const tt_exponent *gy_exponent;  // or NULL: the exponent is gy_exponent_offset alone
    int32_t gy_exponent_offset;
    int32_t total_shift;         // brings any sum into 32 bits
    uint32_t stream;             // of the random generator
    int32_t mode;                // enum tt_update_mode
    int32_t decay_multiplier;    // of the learning rate, for the share a weight loses; 0: none
    int32_t decay_shift;
    tt_clip *clip;               // or NULL: no clipping
    int32_t clip_multiplier;     // the limit is so many times the mean
    int32_t clip_shift;
} tt_update;

// What every update rule beside plain descent has in common (docs/arithmetic.md, "Optimizers").
// Element (o * channels + c) * inner + k of the parameter belongs to channel c.
typedef struct tt_step {
    void *parameter;           // elements by mode
    void *master;              // or NULL
    int32_t *gradient;         // [outer * channels * inner]
    const tt_hyper *hyper;
    const int32_t *multiplier; // per channel: steps of the parameter's last bit per unit of what the rule subtracts
    const int16_t *shift;
    const tt_exponent *gradient_exponent;  // or NULL
    int32_t gradient_exponent_offset;
    int32_t outer, channels, inner;
    int32_t decay_multiplier;  // as in tt_update
    int32_t decay_shift;
    uint32_t stream;
    int32_t mode;              // enum tt_update_mode
    int32_t clear;             // 1: the gradient is an accumulator, and becomes 0
} tt_step;

#endif
