// SPDX-License-Identifier: Apache-2.0
// Gradients of pools: sums of one pixel after the other become mantissas, under a delayed exponent of their own or,
// where no windows overlap and each sum is one term, as they are.
#ifndef TINYTRAIN_GRADIENTS_POOL2D_GRADIENT_H
#define TINYTRAIN_GRADIENTS_POOL2D_GRADIENT_H

#include "tinytrain/gradient.h"

typedef struct tt_pooled {
    tt_exponent *state;  // or NULL
    int32_t sums_exponent;
    tt_rounding rounding;
    uint64_t largest;
} tt_pooled;

static inline tt_pooled tt_pooled_begin(tt_exponent *state, int32_t sums_exponent) {
    const tt_rounding none = {0, 0};
    const tt_pooled pooled = {state, sums_exponent, state != 0 ? tt_gradient_begin(state, sums_exponent) : none, 0};
    return pooled;
}

// The sums of a pixel; its first element in gx is `index`.
static inline void tt_pooled_store(tt_pooled *pooled, const int32_t *sums, int32_t channels, int32_t index, void *gx) {
    const uint64_t magnitude = tt_store_mantissas(&pooled->rounding, sums, channels, index, (tt_mantissa *)gx + index);
    if (magnitude > pooled->largest) { pooled->largest = magnitude; }
}

static inline void tt_pooled_end(const tt_pooled *pooled) {
    if (pooled->state != 0) { tt_exponent_end(pooled->state, pooled->largest, pooled->sums_exponent); }
}

#endif
