// SPDX-License-Identifier: Apache-2.0
// Learning rate schedules. The definition is tinytrain/ops/schedule.py.
#ifndef TINYTRAIN_SCHEDULE_H
#define TINYTRAIN_SCHEDULE_H

#include "tinytrain/learning_rate.h"

enum tt_schedule_kind {
    TT_SCHEDULE_CONSTANT = 0,
    TT_SCHEDULE_COSINE = 1,  // half a cosine, down to 0 at update `total`
    TT_SCHEDULE_STEP = 2,    // times `decay` after each `period` updates
};

typedef struct tt_schedule {
    int32_t kind;      // enum tt_schedule_kind
    float rate;        // the full rate
    uint32_t warm_up;  // updates of a straight climb before that
    uint32_t total;    // updates in all, those of the climb included
    uint32_t period;   // of steps, at least 1
    uint32_t decay;    // of steps, in 2^-16, 0 to 65535
} tt_schedule;

// The rate of update `update`, counted from 0. TT_BAD_ARGUMENT where the schedule makes no sense.
tt_status tt_schedule_rate(const tt_schedule *schedule, uint32_t update, tt_learning_rate *rate);

#endif
