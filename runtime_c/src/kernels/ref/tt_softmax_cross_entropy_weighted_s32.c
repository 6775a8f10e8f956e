// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/cross_entropy.h"
#include "tinytrain/fixed_point.h"
#include "tinytrain/kernels/softmax_cross_entropy.h"

// The sum of target * distance stays below 2^62: targets add up to 2^30, distances are below 2^32.
void tt_softmax_cross_entropy_weighted_s32(const void *args) {
    const tt_softmax_cross_entropy_weighted_s32_args *a = args;
    const int32_t label = a->label[0];
    const int32_t factor = a->factors != 0 ? a->factors[label] : 1 << 30;
    int32_t best = 0;
    for (int32_t n = 1; n < a->classes; n++) {
        if (a->logits[n] > a->logits[best]) { best = n; }
    }
    const int64_t top = a->logits[best];
    uint32_t total = 0;
    int64_t spread = (top - a->logits[label]) * (a->target_label - a->target_other);
    for (int32_t n = 0; n < a->classes; n++) {
        total += tt_exp_q16(top - a->logits[n]);
        spread += (top - a->logits[n]) * a->target_other;
    }
    for (int32_t n = 0; n < a->classes; n++) {
        const uint32_t power = tt_exp_q16(top - a->logits[n]);
        const int32_t probability = (int32_t)(((power << 15) + total / 2) / total);
        const int32_t target = n == label ? a->target_label : a->target_other;
        a->gradient[n] = tt_weighted_difference(probability, target, factor);
    }
    a->result[0] = tt_weighted_loss(spread, tt_log_q16(total), factor, a->loss_shift);
    a->result[1] = best;
}
