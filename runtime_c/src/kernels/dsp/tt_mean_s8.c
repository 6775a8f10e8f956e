// SPDX-License-Identifier: Apache-2.0
// tt_mean_s8: four neighbours at a time, summed as pairs of int16 as long as these hold the sums.
#include "tinytrain/kernels/mean.h"
#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

enum { AT_ONCE = 4, TERMS = 32767 / 128 };

static int8_t mean_of(const tt_mean_s8_args *k, int32_t sum) {
    sum -= k->count * k->x_zero_point;
    const int32_t value = tt_requantize_double(sum, k->y_multiplier, k->y_shift) + k->y_zero_point;
    return (int8_t)tt_clamp(value, k->clamp_low, k->clamp_high);
}

TT_INNER_LOOP static void four_means(const tt_mean_s8_args *k, const int8_t *x, int8_t *y) {
    const int32_t inner = k->inner;
    int32_t sums[AT_ONCE] = {0, 0, 0, 0};
    for (int32_t left = k->count; left > 0; left -= TERMS) {
        uint32_t even = 0, odd = 0;
        for (int32_t terms = tt_min(left, TERMS); terms > 0; terms--, x += inner) {
            const uint32_t bytes = tt_load_bytes(x);
            even = tt_add_even_pair(even, bytes);
            odd = tt_add_odd_pair(odd, bytes);
        }
        sums[0] += (int16_t)even;
        sums[1] += (int16_t)odd;
        sums[2] += (int32_t)even >> 16;
        sums[3] += (int32_t)odd >> 16;
    }
    for (int32_t i = 0; i < AT_ONCE; i++) { y[i] = mean_of(k, sums[i]); }
}

void tt_mean_s8(const void *args) {
    const tt_mean_s8_args *k = args;
    int8_t *y = k->y;
    for (int32_t outer = 0; outer < k->outer; outer++) {
        const int8_t *x = k->x + outer * k->count * k->inner;
        int32_t i = 0;
        for (; i + AT_ONCE <= k->inner; i += AT_ONCE) { four_means(k, x + i, y + i); }
        for (; i < k->inner; i++) {
            int32_t sum = 0;
            for (int32_t n = 0; n < k->count; n++) { sum += x[n * k->inner + i]; }
            y[i] = mean_of(k, sum);
        }
        y += k->inner;
    }
}
