// SPDX-License-Identifier: Apache-2.0
// A program with its memory: what an exported tinytrain_model.c fills in, and what every model can do.
#ifndef TINYTRAIN_MODEL_RUNTIME_H
#define TINYTRAIN_MODEL_RUNTIME_H

#include "tinytrain/program.h"
#include "tinytrain/schedule.h"

// SRAM that outlives a step, and its initial value (NULL: zeros).
typedef struct tt_region {
    uint8_t *memory;
    const uint8_t *image;
    uint32_t size;
} tt_region;

enum { TT_PARAMETERS, TT_MASTERS, TT_OPTIMIZER, TT_STATE, TT_REGIONS };

typedef struct tt_model {
    const tt_program *program;
    tt_region regions[TT_REGIONS];
    tt_hyper *hyper;
    int32_t *label;         // [1], or NULL: not trained on labels
    const int32_t *result;  // {loss in 2^-16, predicted class}
    const int32_t *logits;  // valid after inference
    int32_t classes;        // labels are below it; 2 of one logit, 0 without labels
    uint32_t identity;      // differs between models: saved parameters of another model are refused
} tt_model;

// Gives and takes bytes of a saved model, in order; anything but TT_OK ends the transfer.
typedef tt_status (*tt_write_fn)(void *context, const void *bytes, uint32_t size);
typedef tt_status (*tt_read_fn)(void *context, void *bytes, uint32_t size);

void tt_model_init(const tt_model *model);
// The index of the largest of `classes` logits, of equals the first.
int32_t tt_model_predict(const tt_model *model);
tt_status tt_model_train_step(const tt_model *model, int32_t label);
// The same without a label: the sample, or values the caller has set, are what outputs are compared with.
tt_status tt_model_train_step_unlabelled(const tt_model *model);
tt_status tt_model_set_learning_rate(const tt_model *model, float rate);

// For updates whose gradient is the mean over `samples` (1 to 65535) accumulated ones.
tt_status tt_model_set_batch_rate(const tt_model *model, float rate, uint32_t samples);
tt_status tt_model_set_rate(const tt_model *model, tt_learning_rate rate, uint32_t samples);

// The rate that a schedule has for update `update`, counted from 0.
tt_status tt_model_set_scheduled_rate(
    const tt_model *model, const tt_schedule *schedule, uint32_t update, uint32_t samples
);

// CRC-32 (polynomial 0xEDB88320) of the parameters and masters.
uint32_t tt_model_crc32(const tt_model *model);

// Parameters, masters and optimizer state, behind a header with a CRC. A load that fails leaves the model initialized.
tt_status tt_model_save(const tt_model *model, tt_write_fn write, void *context);
tt_status tt_model_load(const tt_model *model, tt_read_fn read, void *context);

uint32_t tt_crc32(uint32_t crc, const uint8_t *bytes, uint32_t size);

#endif
