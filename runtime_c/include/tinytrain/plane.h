// SPDX-License-Identifier: Apache-2.0
// Depthwise windows on a scalar core: one channel at a time is copied out of its image into a plane of int16, with
// zeros around it, so that neighbours lie beside each other and no window has borders.
#ifndef TINYTRAIN_PLANE_H
#define TINYTRAIN_PLANE_H

#include <string.h>

#include "tinytrain/arithmetic.h"

enum {
    TT_PLANE_OUTPUTS = 4,     // at a time
    TT_PLANE_ON_STACK = 128,  // elements, where there is less scratch
#ifdef TT_PLANES_ARE_RARE     // then small code is worth more
    TT_PLANE_UNROLLED = 1,
#else
    TT_PLANE_UNROLLED = 7,    // weights of a row
#endif
};

// Rows of `step` elements; of the image they show rows `top` on and columns `left` on, which may lie outside it.
typedef struct tt_plane {
    int16_t *at;
    int32_t rows, step, top, left;
} tt_plane;

// The part of an image that a plane shows: where it starts in both, and its size.
typedef struct tt_shown {
    int32_t row, column, rows, columns;  // in the plane
    int32_t start;                       // pixel of the image
} tt_shown;

static inline tt_shown tt_shown_of(const tt_plane *plane, int32_t height, int32_t width) {
    const int32_t row = tt_max(0, -plane->top), column = tt_max(0, -plane->left);
    const tt_shown shown = {row, column, tt_min(plane->rows, height - plane->top) - row,
                            tt_min(plane->step, width - plane->left) - column,
                            (plane->top + row) * width + plane->left + column};
    const tt_shown nothing = {0, 0, 0, 0, 0};
    return shown.rows > 0 && shown.columns > 0 ? shown : nothing;
}

static inline void tt_clear_plane(const tt_plane *plane) {
    memset(plane->at, 0, sizeof(int16_t) * (size_t)(plane->rows * plane->step));
}

// sums += windows of `height` x `width` weights at x, x + stride, ...; width and stride are constants of the caller.
TT_ALWAYS_INLINE static inline void tt_add_windows(const int16_t *x, int32_t x_step, const int8_t *w, int32_t height,
                                                   int32_t width, int32_t stride, int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (; height > 0; height--, x += x_step, w += width) {
#pragma GCC unroll TT_PLANE_UNROLLED
        for (int32_t k = 0; k < width; k++) {
            const int32_t weight = w[k];
            s0 += x[k] * weight;
            s1 += x[k + stride] * weight;
            s2 += x[k + 2 * stride] * weight;
            s3 += x[k + 3 * stride] * weight;
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// The same for any window; common ones are written out.
TT_ALWAYS_INLINE static inline void tt_add_any_windows(const int16_t *x, int32_t x_step, const int8_t *w,
                                                       int32_t height, int32_t width, int32_t stride, int32_t *sums) {
    switch (TT_PLANE_UNROLLED > 1 ? width * 4 + stride : 0) {
    case 3 * 4 + 1: tt_add_windows(x, x_step, w, height, 3, 1, sums); break;
    case 3 * 4 + 2: tt_add_windows(x, x_step, w, height, 3, 2, sums); break;
    case 5 * 4 + 1: tt_add_windows(x, x_step, w, height, 5, 1, sums); break;
    case 7 * 4 + 1: tt_add_windows(x, x_step, w, height, 7, 1, sums); break;
    case 7 * 4 + 2: tt_add_windows(x, x_step, w, height, 7, 2, sums); break;
    default: tt_add_windows(x, x_step, w, height, width, stride, sums); break;
    }
}

#endif
