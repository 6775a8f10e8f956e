// SPDX-License-Identifier: Apache-2.0
// A linear classifier that has the public API of every exported model. It lets the boards be tested on their own.
#ifndef TINYTRAIN_MODEL_H
#define TINYTRAIN_MODEL_H

#include <stdint.h>

#include "tinytrain/program.h"

#define TINYTRAIN_INPUT_BYTES 64
#define TINYTRAIN_OUTPUTS 3
#define TINYTRAIN_CLASSES 3
#define TINYTRAIN_TARGETS 0
#define TINYTRAIN_ARENA_BYTES 96

tt_status tinytrain_init(void);
int8_t *tinytrain_input(void);
tt_status tinytrain_infer(void);
const int32_t *tinytrain_logits(void);
int32_t tinytrain_predict(void);
tt_status tinytrain_train_step(int32_t label);
tt_status tinytrain_apply(void);
int32_t tinytrain_loss(void);
int32_t tinytrain_trained_prediction(void);
tt_status tinytrain_set_learning_rate(float lr);
void tinytrain_set_seed(uint32_t seed);
uint32_t tinytrain_parameters_crc32(void);
extern const tt_program tinytrain_program;

#endif
