// SPDX-License-Identifier: Apache-2.0
// Depthwise 2-D convolution and its gradients. Output channel c reads input channel c / channel_multiplier alone.
#ifndef TINYTRAIN_KERNELS_DEPTHWISE_CONV2D_H
#define TINYTRAIN_KERNELS_DEPTHWISE_CONV2D_H

#include "tinytrain/types.h"

// A range of a depthwise weight's channels, stored on its own: [KH, KW, count].
typedef struct tt_depthwise_block {
    const int8_t *weights;
    int32_t start, count;
} tt_depthwise_block;

// y = clamp(requantize(saturate(w (x - zx) + b)) + zy).
// In place: no. Scratch: any size; more is faster. The sum fits int32: KH KW <= 66311 (checked at compile time).
typedef struct tt_depthwise_conv2d_s8_args {
    const int8_t *x;                   // [x_height, x_width, x_channels]
    const int32_t *bias;               // [y_channels]
    int8_t *y;                         // [y_height, y_width, y_channels]
    void *scratch;                     // words, or NULL
    int32_t scratch_bytes;
    const tt_depthwise_block *blocks;  // in order; together they cover y_channels
    int32_t block_count;
    int32_t x_channels, y_channels;
    int32_t channel_multiplier;        // y_channels / x_channels
    tt_window window;
    const int32_t *multiplier;         // [y_channels], from sums to y's integers
    const int8_t *shift;               // [y_channels], -31 to 30
    int32_t x_zero_point, y_zero_point;
    int32_t clamp_low, clamp_high;
    int32_t single_rounding;           // 0: two roundings, as TFLite; 1: one
} tt_depthwise_conv2d_s8_args;
void tt_depthwise_conv2d_s8(const void *args);

// gx = sum over an input channel's outputs of weight scale * (sum of w * gy), mantissas under a delayed exponent.
// In place: no. Scratch: any size; more is faster. Window sums fit int32: KH KW <= 511 (checked at compile time); the
// rest is exact in int64.
typedef struct tt_depthwise_conv2d_input_gradient_args {
    const void *gy;                    // mantissas [y_height, y_width, y_channels]
    void *gx;                          // mantissas [x_height, x_width, x_channels]
    void *scratch;                     // words, or NULL
    int32_t scratch_bytes;
    const tt_depthwise_block *blocks;
    int32_t block_count;
    int32_t x_channels, y_channels;
    int32_t channel_multiplier;
    tt_window window;
    const int32_t *factors;            // [y_channels], relative weight scales, 0 to 32768
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;        // holds the power of two of the factors
    tt_exponent *gx_exponent;
} tt_depthwise_conv2d_input_gradient_args;
typedef tt_depthwise_conv2d_input_gradient_args tt_depthwise_conv2d_input_gradient_s16_args;
typedef tt_depthwise_conv2d_input_gradient_args tt_depthwise_conv2d_input_gradient_s8_args;
void tt_depthwise_conv2d_input_gradient_s16(const void *args);
void tt_depthwise_conv2d_input_gradient_s8(const void *args);

// Weight gradient of one block, sum over pixels of gy * (x - zx), and its update in the same pass.
// x holds the input channels that the block reads, no others. In place: the parameter. Scratch: any size; more is
// faster. Exact in int64.
typedef struct tt_depthwise_conv2d_weight_update_args {
    const int8_t *x;                   // [x_height, x_width, x_channels]
    const void *gy;                    // mantissas [y_height, y_width, y_channels]
    void *scratch;                     // words, or NULL
    int32_t scratch_bytes;
    int32_t x_zero_point;
    int32_t x_channels, y_channels;
    int32_t start, count;              // output channels of the block
    int32_t channel_multiplier;
    int32_t first_position;            // start % channel_multiplier
    tt_window window;
    tt_update update;                  // target [KH, KW, count]
} tt_depthwise_conv2d_weight_update_args;
typedef tt_depthwise_conv2d_weight_update_args tt_depthwise_conv2d_weight_update_s16_args;
typedef tt_depthwise_conv2d_weight_update_args tt_depthwise_conv2d_weight_update_s8_args;
void tt_depthwise_conv2d_weight_update_s16(const void *args);
void tt_depthwise_conv2d_weight_update_s8(const void *args);

#endif
