// SPDX-License-Identifier: Apache-2.0
// tt_bias_update_s16: gradients of two neighbouring channels are one word of memory, and eight channels share a walk
// over the pixels.
#include <string.h>

#include "tinytrain/fast_update.h"
#include "tinytrain/gradients/bias_update.h"

// 65535 mantissas of 16 bits fit 31 bits and a sign.
enum { TOGETHER = 8, MOST_PIXELS = 65535 };

// Sums of TOGETHER channels over `pixels` pixels; gy and all rows start at whole words.
TT_INNER_LOOP static void sum_together(const int16_t *gy, int32_t step, int32_t pixels, int32_t *sums) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (; pixels > 0; pixels--, gy += step) {
        uint32_t pairs[TOGETHER / 2];
        memcpy(pairs, __builtin_assume_aligned(gy, 4), sizeof pairs);
        s0 += (int16_t)pairs[0], s1 += (int32_t)pairs[0] >> 16;
        s2 += (int16_t)pairs[1], s3 += (int32_t)pairs[1] >> 16;
        s4 += (int16_t)pairs[2], s5 += (int32_t)pairs[2] >> 16;
        s6 += (int16_t)pairs[3], s7 += (int32_t)pairs[3] >> 16;
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3, sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

TT_INNER_LOOP static int32_t sum_channel(const int16_t *gy, int32_t step, int32_t pixels) {
    int32_t sum = 0;
    for (; pixels > 0; pixels--, gy += step) { sum += *gy; }
    return sum;
}

// The sums of `count` channels from c on.
static void sum_channels(const tt_bias_update_args *a, int32_t c, int32_t count, int32_t *sums) {
    const int16_t *gy = (const int16_t *)a->gy + c;
    if (count == TOGETHER) {
        sum_together(gy, a->channels, a->pixels, sums);
        return;
    }
    for (int32_t i = 0; i < count; i++) { sums[i] = sum_channel(gy + i, a->channels, a->pixels); }
}

// The sums of `count` channels, each below 2^31, to their biases.
static void update_all(const tt_update *u, const tt_fast_biases *fast, tt_clipping *clipping, int32_t c, int32_t count,
                       const int32_t *sums) {
    const int32_t end = c + count;
    for (; fast->possible && c < end; c++, sums++) {
        if (!tt_fast_bias_update(u, fast, c, *sums)) { tt_update_any(u, clipping, c, (uint32_t)c, *sums); }
    }
    for (; c < end; c++, sums++) { tt_update_any(u, clipping, c, (uint32_t)c, *sums); }
}

void tt_bias_update_s16(const void *args) {
    const tt_bias_update_args *a = args;
    const int whole_words = a->channels % 2 == 0 && (uintptr_t)a->gy % 4 == 0;
    const tt_fast_biases fast = tt_fast_biases_of(&a->update);
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t c = 0; a->pixels > MOST_PIXELS && c < a->channels; c++) {
        tt_update_any(&a->update, &clipping, c, (uint32_t)c, tt_bias_gradient(a, c));
    }
    for (int32_t c = 0, count = 0; a->pixels <= MOST_PIXELS && c < a->channels; c += count) {
        int32_t sums[TOGETHER];
        count = whole_words && a->channels - c >= TOGETHER ? TOGETHER : tt_min(a->channels - c, TOGETHER - 1);
        sum_channels(a, c, count, sums);
        update_all(&a->update, &fast, &clipping, c, count, sums);
    }
    tt_clip_end(&a->update, &clipping);
}
