// SPDX-License-Identifier: Apache-2.0
// Clipping by the running mean of the largest element. The definition is tinytrain/ops/clipping.py.
#ifndef TINYTRAIN_CLIPPING_H
#define TINYTRAIN_CLIPPING_H

#include "tinytrain/update.h"

enum { TT_CLIP_PASSED = 8, TT_CLIP_MOST_COUNTED = 32 };

// One gradient on its way through the clip.
typedef struct tt_clipping {
    int64_t limit;     // of a sum's magnitude; 0: there is no clipping at all
    uint64_t largest;  // magnitude so far
} tt_clipping;

TT_RARE static tt_clipping tt_clip_first(const tt_update *u) {
    tt_clipping clipping = {INT64_MAX, 0};
    if (u->clip->count >= TT_CLIP_PASSED) {
        const int64_t product = (int64_t)u->clip->mantissa * u->clip_multiplier;
        const int32_t unit = tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
        const int64_t limit = tt_rounding_shift(product, unit - u->clip->exponent - u->clip_shift + 31);
        clipping.limit = limit < 1 ? 1 : limit;
    }
    return clipping;
}

static inline tt_clipping tt_clip_begin(const tt_update *u) {
    const tt_clipping none = {0, 0};
    return u->clip == 0 ? none : tt_clip_first(u);
}

static inline int64_t tt_clipped(tt_clipping *clipping, int64_t sum) {
    if (clipping->limit == 0) { return sum; }
    const int64_t held = tt_clamp64(sum, -clipping->limit, clipping->limit);
    const uint64_t magnitude = tt_magnitude(held);
    if (magnitude > clipping->largest) { clipping->largest = magnitude; }
    return held;
}

// Lets the largest element into the mean.
TT_RARE static void tt_clip_last(const tt_update *u, uint64_t largest) {
    tt_clip *clip = u->clip;
    int32_t length = tt_bit_length(largest);
    int32_t mantissa = (int32_t)(length > 31 ? largest >> (length - 31) : largest << (31 - length));
    int32_t exponent = tt_exponent_of(u->gy_exponent, u->gy_exponent_offset) + length - 31;
    clip->count = tt_min(clip->count + 1, TT_CLIP_MOST_COUNTED);
    if (clip->count > 1) {
        const int32_t top = tt_max(exponent, clip->exponent);
        int32_t mean = clip->mantissa >> tt_min(top - clip->exponent, 31);
        const int32_t value = mantissa >> tt_min(top - exponent, 31);
        mean += (value - mean) >> (tt_bit_length((uint64_t)clip->count) - 1);
        length = tt_bit_length((uint64_t)mean);
        mantissa = (int32_t)((uint32_t)mean << (31 - length));
        exponent = top - 31 + length;
    }
    clip->mantissa = mantissa;
    clip->exponent = exponent;
}

// A gradient of zeros does not count.
static inline void tt_clip_end(const tt_update *u, const tt_clipping *clipping) {
    if (u->clip != 0 && clipping->largest != 0) { tt_clip_last(u, clipping->largest); }
}

// An element of a channel by the exact sum of its gradient products: any mode, any rate. Small rather than fast.
TT_RARE static void tt_update_any(const tt_update *u, tt_clipping *clipping, int32_t channel, uint32_t index,
                                  int64_t total) {
    const tt_rate rate = tt_rate_of_channel(u, channel);
    tt_update_element(u, &rate, index, tt_clipped(clipping, total));
}

#endif
