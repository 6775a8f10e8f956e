// SPDX-License-Identifier: Apache-2.0
// Which part of a window lies inside the image.
#ifndef TINYTRAIN_WINDOW_H
#define TINYTRAIN_WINDOW_H

#include "tinytrain/arithmetic.h"

// Kernel positions first..last-1 of an output position that fall inside [0, extent).
typedef struct tt_range {
    int32_t first, last;
} tt_range;

static inline tt_range tt_inside(int32_t origin, int32_t kernel, int32_t extent) {
    const tt_range range = {tt_max(0, -origin), tt_min(kernel, extent - origin)};
    return range;
}

// Output positions first..last-1 whose kernel position k falls inside [0, extent).
static inline tt_range tt_outputs_inside(int32_t k, int32_t stride, int32_t pad, int32_t extent, int32_t outputs) {
    const int32_t low = pad - k;             // first input position is output * stride - low >= 0
    const int32_t high = extent - 1 + pad - k;
    const tt_range range = {low > 0 ? (low + stride - 1) / stride : 0,
                            high < 0 ? 0 : tt_min(outputs, high / stride + 1)};
    return range;
}

// Where the window of output position (oy, ox) lies: its top left in the image (may be negative), its part inside.
typedef struct tt_patch {
    int32_t y0, x0;
    tt_range rows, columns;
} tt_patch;

static inline tt_patch tt_patch_of(const tt_window *win, int32_t oy, int32_t ox) {
    const int32_t y0 = oy * win->stride_height - win->pad_top, x0 = ox * win->stride_width - win->pad_left;
    const tt_patch patch = {y0, x0, tt_inside(y0, win->kernel_height, win->x_height),
                            tt_inside(x0, win->kernel_width, win->x_width)};
    return patch;
}

static inline int32_t tt_cells(const tt_patch *patch) {
    return (patch->rows.last - patch->rows.first) * (patch->columns.last - patch->columns.first);
}

// Output positions first..last-1 whose window covers input position p: its kernel position is p + pad - output *
// stride.
static inline tt_range tt_outputs_over(int32_t p, int32_t kernel, int32_t stride, int32_t pad, int32_t outputs) {
    const int32_t lowest = p + pad - kernel + 1;
    const tt_range range = {lowest > 0 ? (lowest + stride - 1) / stride : 0, tt_min(outputs, (p + pad) / stride + 1)};
    return range;
}

// Where an input position lies in the padded image, and the outputs whose window covers it. The kernel position at
// which output (oy, ox) sees it is (y - oy * stride, x - ox * stride).
typedef struct tt_cover {
    int32_t y, x;
    tt_range rows, columns;
} tt_cover;

static inline tt_cover tt_cover_of(const tt_window *win, int32_t py, int32_t px) {
    const tt_cover cover = {
        py + win->pad_top, px + win->pad_left,
        tt_outputs_over(py, win->kernel_height, win->stride_height, win->pad_top, win->y_height),
        tt_outputs_over(px, win->kernel_width, win->stride_width, win->pad_left, win->y_width)};
    return cover;
}

#endif
