// SPDX-License-Identifier: Apache-2.0
// A copy of some channels.
#ifndef TINYTRAIN_KERNELS_SLICE_CHANNELS_H
#define TINYTRAIN_KERNELS_SLICE_CHANNELS_H

#include "tinytrain/types.h"

// y[p, c] = x[p, start + c]. In place: no.
typedef struct tt_slice_channels_s8_args {
    const int8_t *x;  // [pixels, x_channels]
    int8_t *y;        // [pixels, count]
    int32_t pixels, x_channels;
    int32_t start, count;
} tt_slice_channels_s8_args;
void tt_slice_channels_s8(const void *args);

#endif
