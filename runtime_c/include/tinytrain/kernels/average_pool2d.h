// SPDX-License-Identifier: Apache-2.0
// Average over sliding windows of an image [H, W, C], and its gradient. Padded cells are not counted.
#ifndef TINYTRAIN_KERNELS_AVERAGE_POOL2D_H
#define TINYTRAIN_KERNELS_AVERAGE_POOL2D_H

#include "tinytrain/types.h"

// y = clamp(sum of the window's cells / their number), rounded half away from zero; y means what x means.
// In place: no. Scratch: none. Every window has a cell in the image, and at most 65535 (checked at compile time).
typedef struct tt_average_pool2d_s8_args {
    const int8_t *x;               // [x_height, x_width, channels]
    int8_t *y;                     // [y_height, y_width, channels]
    int32_t channels;
    tt_window window;
    int32_t clamp_low, clamp_high;
} tt_average_pool2d_s8_args;
void tt_average_pool2d_s8(const void *args);

// gx = sum of gy / cells over the windows a cell lies in. In place: no. Scratch: int32_t[channels].
typedef struct tt_average_pool2d_gradient_args {
    const void *gy;                // mantissas [y_height, y_width, channels]
    void *gx;                      // mantissas [x_height, x_width, channels]
    int32_t *scratch;
    int32_t channels;
    tt_window window;
    int32_t one;                   // 2^(15 + k), 2^k <= cells: one / cells is the factor of a window, at most 32768
    const tt_exponent *gy_exponent;
    int32_t gy_exponent_offset;    // holds -k, and 8 bits less for 8-bit mantissas
    tt_exponent *gx_exponent;      // NULL for 16 bits where no windows overlap: gx has gy's exponent and this offset
} tt_average_pool2d_gradient_args;
typedef tt_average_pool2d_gradient_args tt_average_pool2d_gradient_s16_args;
typedef tt_average_pool2d_gradient_args tt_average_pool2d_gradient_s8_args;
void tt_average_pool2d_gradient_s16(const void *args);
void tt_average_pool2d_gradient_s8(const void *args);

#endif
