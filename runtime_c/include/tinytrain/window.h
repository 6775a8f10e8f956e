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
    const tt_range range = {low > 0 ? (low + stride - 1) / stride : 0, high < 0 ? 0 : tt_min(outputs, high / stride + 1)};
    return range;
}

#endif
