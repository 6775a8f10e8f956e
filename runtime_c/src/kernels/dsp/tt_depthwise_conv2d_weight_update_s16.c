// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update_s16: the bytes of four channels of a pixel are widened in registers, and multiplied
// by halves of words.
#define TT_ADDS_PIXELS
#include "tinytrain/dsp.h"
#include "tinytrain/portable/depthwise_conv2d_weight_update.h"

TT_INNER_LOOP static void tt_add_pixels(int32_t *sums, const tt_pixels *p) {
    const int32_t x_step = p->x_step, gy_step = p->gy_step;
    const uint32_t minus_zero = tt_pair_of(-p->x_zero_point);
    const int8_t *x = p->x;
    const int16_t *gy = p->gy;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (int32_t rows = p->rows; rows > 0; rows--, x += p->x_skip, gy += p->gy_skip) {
        for (int32_t left = p->columns; left > 0; left--, x += x_step, gy += gy_step) {
            const uint32_t bytes = tt_load_bytes(x), g01 = tt_load_bytes(gy), g23 = tt_load_bytes(gy + 2);
            const int32_t even = (int32_t)tt_add_even_pair(minus_zero, bytes);  // channels 0 and 2
            const int32_t odd = (int32_t)tt_add_odd_pair(minus_zero, bytes);
            s0 = __smlabb(even, (int32_t)g01, s0);
            s1 = __smlabt(odd, (int32_t)g01, s1);
            s2 = __smlatb(even, (int32_t)g23, s2);
            s3 = __smlatt(odd, (int32_t)g23, s3);
        }
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

void tt_depthwise_conv2d_weight_update_s16(const void *args) { tt_update_depthwise_weights(args); }
