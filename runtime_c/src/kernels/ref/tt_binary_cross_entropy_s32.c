// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/binary_cross_entropy.h"
#include "tinytrain/cross_entropy.h"
#include "tinytrain/fixed_point.h"

// The softmax of the logits {0, z}, of which the second one trains.
void tt_binary_cross_entropy_s32(const void *args) {
    const tt_binary_cross_entropy_s32_args *a = args;
    const int64_t z = a->logit[0];
    const int32_t positive = a->label[0];
    const int32_t factor = positive ? a->factor_1 : a->factor_0;
    const int32_t target = positive ? a->target_label : a->target_other; // of the class 1
    const int64_t below = z < 0 ? -z : 0, above = z > 0 ? z : 0;         // distances of 1 and 0 to the larger of both
    const uint32_t power = tt_exp_q16(below);
    const uint32_t total = power + tt_exp_q16(above);
    const int32_t probability = (int32_t)(((power << 15) + total / 2) / total);
    const int64_t spread = below * target + above * ((1 << 30) - target);
    a->gradient[0] = tt_weighted_difference(probability, target, factor);
    a->result[0] = tt_weighted_loss(spread, tt_log_q16(total), factor, a->loss_shift);
    a->result[1] = z > 0;
}
