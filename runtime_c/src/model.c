// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/model.h"

#include <string.h>

void tt_model_init(const tt_model *model) {
    for (int32_t i = 0; i < TT_REGIONS; i++) {
        const tt_region *region = &model->regions[i];
        if (region->image != 0) {
            memcpy(region->memory, region->image, region->size);
        } else if (region->size != 0) {
            memset(region->memory, 0, region->size);
        }
    }
}

int32_t tt_model_predict(const tt_model *model) {
    int32_t best = 0;
    for (int32_t n = 1; n < model->classes; n++) {
        if (model->logits[n] > model->logits[best]) { best = n; }
    }
    return best;
}

tt_status tt_model_train_step(const tt_model *model, int32_t label) {
    if (label < 0 || label >= model->classes) { return TT_BAD_ARGUMENT; }
    model->label[0] = label;
    tt_run(model->program, TT_RUN_STEP);
    model->hyper->step++;
    return TT_OK;
}

tt_status tt_model_train_step_unlabelled(const tt_model *model) {
    tt_run(model->program, TT_RUN_STEP);
    model->hyper->step++;
    return TT_OK;
}

// Takes the float apart with integers, so that a core without floating point needs no library for it.
tt_status tt_rate_of_float(float value, tt_learning_rate *rate) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const int32_t exponent = (int32_t)((bits >> 23) & 0xFFU);
    uint32_t mantissa = bits & 0x7FFFFFU;
    if (exponent == 0xFF || ((bits >> 31) != 0 && (bits << 1) != 0)) { return TT_BAD_ARGUMENT; }
    int32_t power = exponent - 126;
    if (exponent == 0) {
        power = -125;
    } else {
        mantissa |= 0x800000U;
    }
    if (mantissa == 0) {
        power = 0;
    } else {
        for (; mantissa < 0x800000U; mantissa <<= 1) { power--; }
    }
    rate->mantissa = mantissa << 7;
    rate->exponent = power;
    return TT_OK;
}

static void set_rates(tt_hyper *hyper, tt_learning_rate sample, tt_learning_rate update) {
    hyper->mantissa = sample.mantissa;
    hyper->exponent = sample.exponent;
    hyper->update_mantissa = update.mantissa;
    hyper->update_exponent = update.exponent;
}

tt_status tt_model_set_learning_rate(const tt_model *model, float rate) {
    tt_learning_rate whole;
    const tt_status status = tt_rate_of_float(rate, &whole);
    if (status == TT_OK) { set_rates(model->hyper, whole, whole); }
    return status;
}

tt_status tt_model_set_rate(const tt_model *model, tt_learning_rate rate, uint32_t samples) {
    if (samples == 0 || samples > 65535) { return TT_BAD_ARGUMENT; }
    set_rates(model->hyper, samples == 1 ? rate : tt_divided_rate(rate, samples), rate);
    return TT_OK;
}

tt_status tt_model_set_batch_rate(const tt_model *model, float rate, uint32_t samples) {
    tt_learning_rate whole;
    const tt_status status = tt_rate_of_float(rate, &whole);
    return status == TT_OK ? tt_model_set_rate(model, whole, samples) : status;
}
