// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/transpose.h"

void tt_transpose_s16(const void *args) {
    const tt_transpose_s16_args *a = args;
    const int32_t *n = a->extents, *step = a->x_steps;
    int16_t *y = a->y;
    for (int32_t i = 0; i < n[0]; i++) {
        for (int32_t j = 0; j < n[1]; j++) {
            for (int32_t k = 0; k < n[2]; k++) {
                const int16_t *x = a->x + i * step[0] + j * step[1] + k * step[2];
                for (int32_t l = 0; l < n[3]; l++, x += step[3]) { *y++ = *x; }
            }
        }
    }
}
