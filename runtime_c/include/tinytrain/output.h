// SPDX-License-Identifier: Apache-2.0
// From exact sums to int8 outputs.
#ifndef TINYTRAIN_OUTPUT_H
#define TINYTRAIN_OUTPUT_H

#include "tinytrain/arithmetic.h"

// y = clamp(requantize(saturate(sum + bias)) + zero point); arrays per channel.
typedef struct tt_output {
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t zero_point, low, high;
    int32_t single_rounding;
} tt_output;

static inline int8_t tt_output_of(const tt_output *o, int32_t sum, int32_t channel) {
    const int32_t total = tt_saturating_add(sum, o->bias[channel]);
    const int32_t value = tt_requantize(total, o->multiplier[channel], o->shift[channel], o->single_rounding);
    return tt_clamped_output(value, o->zero_point, o->low, o->high);
}

#endif
