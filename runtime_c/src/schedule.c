// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/schedule.h"

#include "tinytrain/model.h"

#define ONE ((uint64_t)1 << 30)

enum { TERMS = 7, SMALLEST_EXPONENT = -100 };

// sin(pi x / 2)^2 as a series in x^2, 2^30 = 1.0: pi^(2k) / (2 (2k)!)
static const uint32_t SINE_SQUARED[TERMS] = {2649351758U, 2179004481U, 716863740U, 126342170U,
                                             13854969U, 1035932U, 56177U};

// (1 + cos(pi x)) / 2 for x in [0, 1], from the series around the nearer end.
static uint64_t falling_cosine(uint64_t x) {
    const uint64_t near = x <= ONE / 2 ? x : ONE - x;
    const uint64_t square = (near * near) >> 30;
    uint64_t value = 0;
    for (int32_t k = TERMS - 1; k >= 0; k--) { value = SINE_SQUARED[k] - ((value * square) >> 30); }
    value = (value * square) >> 30;
    return near == x ? ONE - value : value;
}

static uint64_t share_of(const tt_schedule *s, uint32_t update) {
    if (update < s->warm_up) { return (((uint64_t)update + 1) << 30) / ((uint64_t)s->warm_up + 1); }
    const uint32_t done = update - s->warm_up;
    if (s->kind == TT_SCHEDULE_COSINE) {
        const uint32_t left = s->total > s->warm_up ? s->total - s->warm_up : 0;
        return done >= left ? 0 : falling_cosine(((uint64_t)done << 30) / left);
    }
    uint64_t share = ONE;
    if (s->kind == TT_SCHEDULE_STEP) {
        for (uint32_t i = done / s->period; i != 0 && share != 0; i--) { share = (share * s->decay) >> 16; }
    }
    return share;
}

tt_status tt_schedule_rate(const tt_schedule *schedule, uint32_t update, tt_learning_rate *rate) {
    const int known = schedule->kind >= TT_SCHEDULE_CONSTANT && schedule->kind <= TT_SCHEDULE_STEP;
    if (!known || schedule->period == 0 || schedule->decay > 65535) { return TT_BAD_ARGUMENT; }
    const tt_status status = tt_rate_of_float(schedule->rate, rate);
    if (status != TT_OK) { return status; }
    *rate = tt_rounded_rate(rate->mantissa * share_of(schedule, update), rate->exponent - 30);
    if (rate->exponent < SMALLEST_EXPONENT) { rate->mantissa = 0; }
    if (rate->mantissa == 0) { rate->exponent = 0; }
    return TT_OK;
}

tt_status tt_model_set_scheduled_rate(
    const tt_model *model, const tt_schedule *schedule, uint32_t update, uint32_t samples
) {
    tt_learning_rate rate;
    const tt_status status = tt_schedule_rate(schedule, update, &rate);
    return status == TT_OK ? tt_model_set_rate(model, rate, samples) : status;
}
