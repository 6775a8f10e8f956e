// SPDX-License-Identifier: Apache-2.0
// Maximum over sliding windows of an image [H, W, C], and its gradient. Padded cells never win.
#ifndef TINYTRAIN_KERNELS_MAX_POOL2D_H
#define TINYTRAIN_KERNELS_MAX_POOL2D_H

#include "tinytrain/types.h"

// y = clamp(largest cell of the window); y means what x means. In place: no. Scratch: none.
// Every window has a cell in the image (checked at compile time).
typedef struct tt_max_pool2d_s8_args {
    const int8_t *x;               // [x_height, x_width, channels]
    int8_t *y;                     // [y_height, y_width, channels]
    int32_t channels;
    tt_window window;
    int32_t clamp_low, clamp_high;
} tt_max_pool2d_s8_args;
void tt_max_pool2d_s8(const void *args);

// The first largest cell of each window: row in window * kernel_width + column. At most 256 cells. In place: no.
typedef struct tt_max_pool2d_winner_s8_args {
    const int8_t *x;               // [x_height, x_width, channels]
    uint8_t *winner;               // [y_height, y_width, channels]
    int32_t channels;
    tt_window window;
} tt_max_pool2d_winner_s8_args;
void tt_max_pool2d_winner_s8(const void *args);

// gx = sum of gy over the windows a cell won. In place: no. Scratch: int32_t[channels].
typedef struct tt_max_pool2d_gradient_args {
    const void *gy;                // mantissas [y_height, y_width, channels]
    const uint8_t *winner;         // [y_height, y_width, channels]
    void *gx;                      // mantissas [x_height, x_width, channels]
    int32_t *scratch;
    int32_t channels;
    tt_window window;
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;
    tt_exponent *gx_exponent;      // NULL where no windows overlap: gx has gy's exponent
} tt_max_pool2d_gradient_args;
typedef tt_max_pool2d_gradient_args tt_max_pool2d_gradient_s16_args;
typedef tt_max_pool2d_gradient_args tt_max_pool2d_gradient_s8_args;
void tt_max_pool2d_gradient_s16(const void *args);
void tt_max_pool2d_gradient_s8(const void *args);

#endif
