// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/program.h"

// The arithmetic counts on these two; every compiler we support keeps them.
typedef char tt_right_shift_is_arithmetic[(-1 >> 1) == -1 ? 1 : -1];
typedef char tt_int_has_32_bits[sizeof(int) == 4 ? 1 : -1];

void tt_run(const tt_program *program, uint32_t phases) {
    for (int32_t i = 0; i < program->row_count; i++) {
        const tt_row *row = &program->rows[i];
        if ((phases >> row->phase) & 1U) { row->kernel(row->args); }
    }
}
