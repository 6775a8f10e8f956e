// SPDX-License-Identifier: Apache-2.0
// A training step is a list of kernel calls with fixed addresses.
#ifndef TINYTRAIN_PROGRAM_H
#define TINYTRAIN_PROGRAM_H

#include "tinytrain/types.h"

typedef void (*tt_kernel)(const void *args);

// The parts of a step; inference is TT_PHASE_FORWARD alone.
enum tt_phase {
    TT_PHASE_FORWARD = 0,
    TT_PHASE_SAVE = 1,  // during the forward part, only while training: masks, kept slices
    TT_PHASE_LOSS = 2,
    TT_PHASE_BACKWARD = 3,
    TT_PHASE_UPDATE = 4,
    TT_PHASE_APPLY = 5,  // once per batch: accumulated gradients into the parameters
};

typedef struct tt_row {
    tt_kernel kernel;
    const void *args;  // the kernel's own struct
    int32_t phase;
} tt_row;

typedef struct tt_program {
    const tt_row *rows;
    int32_t row_count;
} tt_program;

enum {
    TT_RUN_INFER = 1 << TT_PHASE_FORWARD,
    TT_RUN_STEP = (1 << TT_PHASE_FORWARD) | (1 << TT_PHASE_SAVE) | (1 << TT_PHASE_LOSS) | (1 << TT_PHASE_BACKWARD) |
                  (1 << TT_PHASE_UPDATE),
    TT_RUN_APPLY = 1 << TT_PHASE_APPLY,
};

// Run the rows, in order, whose phase is in the set `phases` (a sum of 1 << tt_phase).
void tt_run(const tt_program *program, uint32_t phases);

#endif
