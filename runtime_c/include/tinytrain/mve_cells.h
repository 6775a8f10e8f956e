// SPDX-License-Identifier: Apache-2.0
// Helium: cells of an image, what windows read of 16 channels. A cell is, for every channel, a word of the bytes of four
// rows of a column. Cells of a column lie one below the other, columns side by side. VST4 makes them of contiguous loads.
#ifndef TINYTRAIN_MVE_CELLS_H
#define TINYTRAIN_MVE_CELLS_H

#include "tinytrain/mve.h"

enum { TT_CELL = 64 };  // bytes

// Up to 16 neighbouring channels.
typedef struct tt_image {
    const int8_t *x;
    int32_t pitch, step;  // bytes from row to row and from column to column
    int32_t rows, columns;
    int8x16_t outside;    // what is around them
    uint8x16_t inputs;    // where `gathered`: which channels, from x on
    int32_t gathered;
    mve_pred16_t present;
} tt_image;

// VST4 takes neighbouring registers. VPR changes, which no clobber can say: so this is inlined only into a function of
// its own.
#define TT_LOAD_ROW(then, row, address) "vldrb" then " q" row ", [%[x" row "]" address "]\n\t"
#define TT_WEAVE(predicate, then, address)                                                                             \
    __asm__ volatile(                                                                                                  \
        "vmsr p0, %[present]\n\t"                                                                                      \
        "dls lr, %[count]\n"                                                                                           \
        "1:\n\t" predicate TT_LOAD_ROW(then, "0", address) TT_LOAD_ROW(then, "1", address)                             \
            TT_LOAD_ROW(then, "2", address) TT_LOAD_ROW(then, "3", address)                                            \
        "add %[x0], %[step0]\n\t"                                                                                      \
        "add %[x1], %[step1]\n\t"                                                                                      \
        "add %[x2], %[step2]\n\t"                                                                                      \
        "add %[x3], %[step3]\n\t"                                                                                      \
        "vst40.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                        \
        "vst41.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                        \
        "vst42.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                        \
        "vst43.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                        \
        "add %[to], %[to_step]\n\t"                                                                                    \
        "le lr, 1b"                                                                                                    \
        : [x0] "+r"(x[0]), [x1] "+r"(x[1]), [x2] "+r"(x[2]), [x3] "+r"(x[3]), [to] "+r"(to)                            \
        : [step0] "r"(step[0]), [step1] "r"(step[1]), [step2] "r"(step[2]), [step3] "r"(step[3]),                      \
          [to_step] "r"(to_step), [present] "r"(from->present), [count] "r"(count), [inputs] "w"(from->inputs)         \
        : "lr", "q0", "q1", "q2", "q3", "memory")

// Rows row..row + 3 of columns that there are, `offset` bytes away; cells are `to_step` bytes apart.
TT_INNER_LOOP static void tt_weave(const tt_image *from, int32_t offset, int32_t row, int32_t count, int8_t *to,
                                   int32_t to_step) {
    const int8_t *x[4];
    int32_t step[4];
#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; k++) {
        const int there = row + k >= 0 && row + k < from->rows;
        x[k] = there ? from->x + offset + (row + k) * from->pitch : (const int8_t *)&from->outside;
        step[k] = there ? from->step : 0;
    }
    if (from->gathered) {
        TT_WEAVE("vpstttt\n\t", "t.u8", ", %q[inputs]");
    } else if (from->present == 0xFFFF) {
        TT_WEAVE("", ".8", "");
    } else {
        TT_WEAVE("vpstttt\n\t", "t.8", "");
    }
}

// The cells of `count` columns from (y, x) on, `blocks` to a column.
static inline void tt_lay_out_cells(const tt_image *from, int32_t y, int32_t x, int32_t count, int32_t blocks,
                                    int8_t *to) {
    const int32_t before = tt_clamp(-x, 0, count), end = tt_clamp(from->columns - x, before, count);
    const int32_t column = blocks * TT_CELL;
    tt_fill_bytes(to, from->outside, before * column);
    to += before * column;
    for (int32_t i = 0; i < blocks && end > before; i++) {
        tt_weave(from, (x + before) * from->step, y + 4 * i, end - before, to + i * TT_CELL, column);
    }
    tt_fill_bytes(to + (end - before) * column, from->outside, (count - end) * column);
}

#endif
