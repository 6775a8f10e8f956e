// SPDX-License-Identifier: Apache-2.0
// Clipping by the running mean of the largest element. The definition is tinytrain/ops/clipping.py.
#ifndef TINYTRAIN_CLIPPING_H
#define TINYTRAIN_CLIPPING_H

#include "tinytrain/arithmetic.h"

enum { TT_CLIP_PASSED = 8, TT_CLIP_MOST_COUNTED = 32 };

// One gradient on its way through the clip.
typedef struct tt_clipping {
    int64_t limit;     // of a sum's magnitude; 0: there is no clipping at all
    uint64_t largest;  // magnitude so far
} tt_clipping;

static inline tt_clipping tt_clip_begin(const tt_update *u) {
    tt_clipping clipping = {0, 0};
    if (u->clip == 0) { return clipping; }
    clipping.limit = INT64_MAX;
    if (u->clip->count >= TT_CLIP_PASSED) {
        const int64_t product = (int64_t)u->clip->mantissa * u->clip_multiplier;
        const int32_t unit = tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
        const int64_t limit = tt_rounding_shift(product, unit - u->clip->exponent - u->clip_shift + 31);
        clipping.limit = limit < 1 ? 1 : limit;
    }
    return clipping;
}

static inline int64_t tt_clipped(tt_clipping *clipping, int64_t sum) {
    if (clipping->limit == 0) { return sum; }
    const int64_t held = tt_clamp64(sum, -clipping->limit, clipping->limit);
    const uint64_t magnitude = tt_magnitude(held);
    if (magnitude > clipping->largest) { clipping->largest = magnitude; }
    return held;
}

// Lets the largest element into the mean; a gradient of zeros does not count.
static inline void tt_clip_end(const tt_update *u, const tt_clipping *clipping) {
    tt_clip *clip = u->clip;
    if (clip == 0 || clipping->largest == 0) { return; }
    const uint64_t largest = clipping->largest;
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

#endif
