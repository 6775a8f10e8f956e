// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/slice_channels.h"

#include <string.h>

void tt_slice_channels_s8(const void *args) {
    const tt_slice_channels_s8_args *a = args;
    const int8_t *x = a->x + a->start;
    int8_t *y = a->y;
    for (int32_t p = 0; p < a->pixels; p++, x += a->x_channels, y += a->count) { memcpy(y, x, (size_t)a->count); }
}
