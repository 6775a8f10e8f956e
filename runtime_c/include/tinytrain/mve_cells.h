// SPDX-License-Identifier: Apache-2.0
// Helium: cells of an image, what windows read of 16 channels. A cell is, for every channel, a word of the bytes of
// four rows of a column. Cells of a column lie one below the other, columns side by side. VST4 makes them of contiguous
// loads.
#ifndef TINYTRAIN_MVE_CELLS_H
#define TINYTRAIN_MVE_CELLS_H

#include "tinytrain/mve.h"

enum { TT_CELL = 64, TT_CELL_WORDS = 4 };  // bytes; of a vector

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

// Columns of a vector moved down by so many bits. A column's bytes lie one behind the other, and a kernel that is moved
// ends before its column does: so all can be moved as one. The intrinsic would do it twice, once for the carry.
#define TT_MOVE_DOWN(columns, carry, bits) __asm__("vshlc %q0, %1, #" bits : "+w"(columns), "+r"(carry))
#define TT_MOVE_FOUR(bits)                                                                                             \
    TT_MOVE_DOWN(w0, c0, bits); TT_MOVE_DOWN(w1, c1, bits); TT_MOVE_DOWN(w2, c2, bits); TT_MOVE_DOWN(w3, c3, bits)

// `words` neighbouring cells of four channels as vectors, channel after channel; returns their sums. down: where not 0,
// each vector is followed by the one that is moved down by so many rows, 1 or 2. VPR changes, which no clobber can say:
// so this stays a function of its own.
TT_INNER_LOOP static int32x4_t tt_take_vectors(const int8_t *cells, int32_t words, int32_t vectors, int32_t down,
                                               int8x16_t *v0) {
    uint32x4_t at = vaddq_n_u32(vmulq_n_u32(vidupq_n_u32(0, 1), TT_CELL), (uint32_t)(uintptr_t)cells);
    const int32_t tall = down > 0 ? 2 : 1, step = vectors * tall;
    int8x16_t *v1 = v0 + step, *v2 = v1 + step, *v3 = v2 + step;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    uint32_t c0 = 0, c1 = 0, c2 = 0, c3 = 0;
    for (int32_t i = 0, left = words; i < step; i += tall, left -= TT_CELL_WORDS) {
        int8x16_t w0, w1, w2, w3;
        __asm__ volatile(
            "vctp.32 %[left]\n\t"
            "vpstttt\n\t"
            "vldrwt.u32 %q[w0], [%q[at]]\n\t"
            "vldrwt.u32 %q[w1], [%q[at], #4]\n\t"
            "vldrwt.u32 %q[w2], [%q[at], #8]\n\t"
            "vldrwt.u32 %q[w3], [%q[at], #12]\n\t"
            "vaddva.s8 %[s0], %q[w0]\n\t"
            "vaddva.s8 %[s1], %q[w1]\n\t"
            "vaddva.s8 %[s2], %q[w2]\n\t"
            "vaddva.s8 %[s3], %q[w3]"
            : [w0] "=&w"(w0), [w1] "=&w"(w1), [w2] "=&w"(w2), [w3] "=&w"(w3), [s0] "+Te"(s0), [s1] "+Te"(s1),
              [s2] "+Te"(s2), [s3] "+Te"(s3)
            : [at] "w"(at), [left] "r"(tt_max(left, 0))
            : "memory");
        v0[i] = w0, v1[i] = w1, v2[i] = w2, v3[i] = w3;
        at = vaddq_n_u32(at, TT_CELL_WORDS * TT_CELL);
        if (down == 0) { continue; }
        if (down == 1) {
            TT_MOVE_FOUR("8");
        } else {
            TT_MOVE_FOUR("16");
        }
        v0[i + 1] = w0, v1[i + 1] = w1, v2[i + 1] = w2, v3[i + 1] = w3;
    }
    return tt_lanes(s0, s1, s2, s3);
}

#endif
