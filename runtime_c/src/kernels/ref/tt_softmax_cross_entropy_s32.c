// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/softmax_cross_entropy.h"
#include "tinytrain/fixed_point.h"

void tt_softmax_cross_entropy_s32(const void *args) {
    const tt_softmax_cross_entropy_s32_args *a = args;
    const int32_t label = a->label[0];
    int32_t best = 0;
    for (int32_t n = 1; n < a->classes; n++) {
        if (a->logits[n] > a->logits[best]) { best = n; }
    }
    const int64_t top = a->logits[best];
    uint32_t total = 0;
    for (int32_t n = 0; n < a->classes; n++) { total += tt_exp_q16(top - a->logits[n]); }
    for (int32_t n = 0; n < a->classes; n++) {
        const uint32_t power = tt_exp_q16(top - a->logits[n]);
        const int32_t probability = (int32_t)(((power << 15) + total / 2) / total);
        a->gradient[n] = (int16_t)tt_min(probability - (n == label ? 32768 : 0), 32767);
    }
    a->result[0] = tt_saturate32(top - a->logits[label] + tt_log_q16(total));
    a->result[1] = best;
}
