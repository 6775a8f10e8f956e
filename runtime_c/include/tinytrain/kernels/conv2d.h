// SPDX-License-Identifier: Apache-2.0
// 2-D convolution and its gradients. Images are [H, W, C]; a weight is cut into blocks (struct tt_weight_block).
#ifndef TINYTRAIN_KERNELS_CONV2D_H
#define TINYTRAIN_KERNELS_CONV2D_H

#include "tinytrain/types.h"

// y = clamp(requantize(saturate(w (x - zx) + b)) + zy). Also runs fully connected layers: one pixel, 1 x 1 window.
// In place: no. Scratch: for twins that expand pixels and weights; more is faster.
// The sum fits int32: KH KW CI <= 66311 (checked at compile time).
typedef struct tt_conv2d_s8_args {
    const int8_t *x;               // [x_height, x_width, x_channels]
    const int32_t *bias;           // [y_channels]
    int8_t *y;                     // [y_height, y_width, y_channels]
    void *scratch;                 // words
    int32_t scratch_bytes;         // 12 * (KH KW x_channels, rounded up to a multiple of 8) + 32, or more; 13 times it
                                   // where weights lie in several blocks, KH KW x_channels is no multiple of 4, or
                                   // there is one output channel
    const tt_weight_block *blocks; // together they cover y_channels x x_channels, each pair once
    int32_t block_count;
    int32_t x_channels, y_channels;
    tt_window window;
    const int32_t *multiplier;     // [y_channels], from sums to y's integers
    const int8_t *shift;           // [y_channels], -31 to 30
    int32_t x_zero_point, y_zero_point;
    int32_t clamp_low, clamp_high;
    int32_t single_rounding;       // 1: fully connected, 0: convolution
} tt_conv2d_s8_args;
void tt_conv2d_s8(const void *args);

// gx = sum over outputs of w * (gy * weight scale), as mantissas under a delayed exponent.
// In place: no. Scratch: int16_t[KH KW y_channels] or more; more is faster. Sums are exact in int64.
typedef struct tt_conv2d_input_gradient_args {
    const void *gy;                // mantissas [y_height, y_width, y_channels]
    void *gx;                      // mantissas [x_height, x_width, x_channels]
    int16_t *scratch;              // words
    int32_t scratch_bytes;
    const tt_weight_block *blocks;
    int32_t block_count;
    int32_t x_channels, y_channels;
    tt_window window;
    const int32_t *factors;        // [y_channels], relative weight scales, 0 to 32768
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;    // holds the power of two of the largest weight scale; 8 less for 8 bits
    tt_exponent *gx_exponent;
} tt_conv2d_input_gradient_args;
typedef tt_conv2d_input_gradient_args tt_conv2d_input_gradient_s16_args;
typedef tt_conv2d_input_gradient_args tt_conv2d_input_gradient_s8_args;
void tt_conv2d_input_gradient_s16(const void *args);
void tt_conv2d_input_gradient_s8(const void *args);

// Weight gradient of one block, sum over pixels of gy * (x - zx), and its update in the same pass.
// x holds the input channels of the block only. In place: the parameter. Scratch: any size; more is faster.
// Sums are exact in int64.
typedef struct tt_conv2d_weight_update_args {
    const int8_t *x;               // [x_height, x_width, x_channels]
    const void *gy;                // mantissas [y_height, y_width, y_channels]
    void *scratch;                 // words, or NULL
    int32_t scratch_bytes;
    int32_t x_zero_point;
    int32_t x_channels, y_channels;
    int32_t co_start, co_count;    // output channels of the block
    tt_window window;
    tt_update update;              // target [co_count, KH, KW, x_channels]
} tt_conv2d_weight_update_args;
typedef tt_conv2d_weight_update_args tt_conv2d_weight_update_s16_args;
typedef tt_conv2d_weight_update_args tt_conv2d_weight_update_s8_args;
void tt_conv2d_weight_update_s16(const void *args);
void tt_conv2d_weight_update_s8(const void *args);

#endif
