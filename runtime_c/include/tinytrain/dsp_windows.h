// SPDX-License-Identifier: Apache-2.0
// Outputs of a row of a plane (tinytrain/dsp_planes.h): windows 3, 5 or 7 wide over pairs of pixels, for stride 1 or 2.
// On cores with the DSP instructions. gcc would not load words in pairs, and spill what the loops need all the time.
#ifndef TINYTRAIN_DSP_WINDOWS_H
#define TINYTRAIN_DSP_WINDOWS_H

#include "tinytrain/dsp_output.h"
#include "tinytrain/dsp_planes.h"

// Outputs next to each other. Instructions that set or add to a sum: both products of a pair of pixels and a pair of
// taps, or those of the second pixel and first tap, of the first pixel and second tap, of the firsts of both.
#define ADD(op, s, x, w) op " %[" #s "], %[" #x "], %[" #w "], %[" #s "]\n\t"
#define SET_PAIR(s, x, w) "smuad %[" #s "], %[" #x "], %[" #w "]\n\t"
#define SET_HIGH(s, x, w) "smultb %[" #s "], %[" #x "], %[" #w "]\n\t"
#define PAIR(s, x, w) ADD("smlad", s, x, w)
#define HIGH(s, x, w) ADD("smlatb", s, x, w)
#define LAST(s, x, w) ADD("smlabt", s, x, w)
#define LOW(s, x, w) ADD("smlabb", s, x, w)
#define TAPS(a, b) "ldrd %[" #a "], %[" #b "], [%[w]], #8\n\t"
#define TAP(a) "ldr %[" #a "], [%[w]], #4\n\t"
#define LOAD_TWO(a, b, at) "ldrd %[" #a "], %[" #b "], [%[x], #" #at "]\n\t"
#define LOAD(a, at) "ldr %[" #a "], [%[x], #" #at "]\n\t"

// A window's row of eight outputs, 3 wide, or of four. Taps for stride 1: 0 and 1, 1 and 2, 2 and 3 and so on; for stride
// 2: 0 and 1, 2 and 3 and so on, the last one alone. FIRST and HIGH1 set a sum in a window's first row.
#define EIGHT_3(FIRST, HIGH1)                                                                                   \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) HIGH1(s1, x0, w0) LAST(s0, x1, w1) PAIR(s1, x1, w1)                   \
    FIRST(s2, x1, w0) HIGH1(s3, x1, w0)                                                                         \
    LOAD_TWO(x0, x1, 8) LAST(s2, x0, w1) PAIR(s3, x0, w1) FIRST(s4, x0, w0) HIGH1(s5, x0, w0)                   \
    LAST(s4, x1, w1) PAIR(s5, x1, w1) FIRST(s6, x1, w0) HIGH1(s7, x1, w0)                                       \
    LOAD(x0, 16) LAST(s6, x0, w1) PAIR(s7, x0, w1)
#define EIGHT_3_BY_2(FIRST, HIGH1)                                                                              \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) LOW(s0, x1, w1) FIRST(s1, x1, w0)                                     \
    LOAD_TWO(x0, x1, 8) LOW(s1, x0, w1) FIRST(s2, x0, w0) LOW(s2, x1, w1) FIRST(s3, x1, w0)                     \
    LOAD_TWO(x0, x1, 16) LOW(s3, x0, w1) FIRST(s4, x0, w0) LOW(s4, x1, w1) FIRST(s5, x1, w0)                    \
    LOAD_TWO(x0, x1, 24) LOW(s5, x0, w1) FIRST(s6, x0, w0) LOW(s6, x1, w1) FIRST(s7, x1, w0)                    \
    LOAD(x0, 32) LOW(s7, x0, w1)
#define FOUR_3(FIRST, HIGH1)                                                                                    \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) HIGH1(s1, x0, w0) FIRST(s2, x1, w0) HIGH1(s3, x1, w0)                 \
    LOAD(x0, 8) LAST(s0, x1, w1) PAIR(s1, x1, w1) LAST(s2, x0, w1) PAIR(s3, x0, w1)
#define FOUR_3_BY_2(FIRST, HIGH1)                                                                               \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) LOW(s0, x1, w1) FIRST(s1, x1, w0)                                     \
    LOAD_TWO(x0, x1, 8) LOW(s1, x0, w1) FIRST(s2, x0, w0) LOW(s2, x1, w1) FIRST(s3, x1, w0)                     \
    LOAD(x0, 16) LOW(s3, x0, w1)
#define FOUR_5_OR_7(FIRST, HIGH1)                                                                               \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) HIGH1(s1, x0, w0) FIRST(s2, x1, w0) HIGH1(s3, x1, w0)                 \
    LOAD_TWO(x2, x0, 8) PAIR(s1, x1, w1) PAIR(s3, x2, w1)                                                       \
    TAPS(w0, w1) PAIR(s0, x1, w0) PAIR(s2, x2, w0) PAIR(s1, x2, w1) PAIR(s3, x0, w1)
#define FOUR_5(FIRST, HIGH1) FOUR_5_OR_7(FIRST, HIGH1) LAST(s0, x2, w1) LAST(s2, x0, w1)
#define FOUR_7(FIRST, HIGH1)                                                                                    \
    FOUR_5_OR_7(FIRST, HIGH1)                                                                                   \
    TAPS(w0, w1) LOAD(x1, 16) PAIR(s0, x2, w0) PAIR(s2, x0, w0) PAIR(s1, x0, w1) PAIR(s3, x1, w1)               \
    LAST(s0, x0, w1) LAST(s2, x1, w1)
#define FOUR_5_BY_2(FIRST, HIGH1)                                                                               \
    TAPS(w0, w1) TAP(w2)                                                                                        \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) PAIR(s0, x1, w1) FIRST(s1, x1, w0)                                    \
    LOAD_TWO(x0, x1, 8) LOW(s0, x0, w2) PAIR(s1, x0, w1) LOW(s1, x1, w2) FIRST(s2, x0, w0) PAIR(s2, x1, w1)     \
    FIRST(s3, x1, w0)                                                                                           \
    LOAD_TWO(x0, x1, 16) LOW(s2, x0, w2) PAIR(s3, x0, w1) LOW(s3, x1, w2)
#define FOUR_7_BY_2(FIRST, HIGH1)                                                                               \
    TAPS(w0, w1) TAPS(w2, x2)                                                                                   \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) PAIR(s0, x1, w1) FIRST(s1, x1, w0)                                    \
    LOAD_TWO(x0, x1, 8) PAIR(s0, x0, w2) LOW(s0, x1, x2) PAIR(s1, x0, w1) PAIR(s1, x1, w2) FIRST(s2, x0, w0)    \
    PAIR(s2, x1, w1) FIRST(s3, x1, w0)                                                                          \
    LOAD_TWO(x0, x1, 16) LOW(s1, x0, x2) PAIR(s2, x0, w2) LOW(s2, x1, x2) PAIR(s3, x0, w1) PAIR(s3, x1, w2)     \
    LOAD(x0, 24) LOW(s3, x0, x2)

// Outputs of four channels: in `rows` rows, from y on, `count` times eight or four side by side, or fewer than four.
typedef struct tt_strip {
    const uint32_t *x;            // the first row in the first plane, where the first window begins
    const uint32_t *weights;      // [TT_PLANES, height, taps]
    const tt_channel *channels;
    int8_t *y;
    int32_t rows, y0, stride;     // y0: the row of the image that the first row's windows begin at
    int32_t first_row, end_row;   // of the image in the planes
    int32_t height, taps;         // of a window; words of a row of taps
    int32_t plane, pitch, x_row;  // bytes of a plane, of a row in it, from a window to the one of the next row
    int32_t y_row, step;          // bytes of a row of y, from an output to the next one of the channel
    int32_t count, outputs;
} tt_strip;

// Two words of an asm statement's frame: no register is left for what the sums do not need all the time.
typedef struct tt_frame {
    int32_t first, second;
} tt_frame;

typedef struct tt_frame_place {
    const void *at;
    int32_t value;
} tt_frame_place;

// From row y0 of the image on: how many rows of outputs, at most `left`, whose whole window is there; else one.
static inline int32_t tt_rows_alike(const tt_strip *s, int32_t y0, int32_t left) {
    if (y0 < s->first_row || y0 + s->height > s->end_row) { return 1; }
    return tt_min(left, (s->end_row - s->height - y0) / s->stride + 1);
}

// A row of the image in a plane.
static inline const uint32_t *tt_row_at(const tt_strip *s, int32_t row, int32_t lane) {
    return (const uint32_t *)(const void *)((const int8_t *)s->x + (row - s->first_row) * s->pitch + lane * s->plane);
}

// The taps for a row of the image, of a window of three rows that begins at row y0.
static inline tt_frame tt_taps_of(const tt_strip *s, const uint32_t *weights, int32_t y0, int32_t row) {
    tt_frame taps = {0, 0};
    if (row >= y0 && row < y0 + 3 && row < s->end_row) {
        taps.first = (int32_t)weights[2 * (row - y0)];
        taps.second = (int32_t)weights[2 * (row - y0) + 1];
    }
    return taps;
}

#define EACH(STEP, ...)                                                                                         \
    STEP(s0, __VA_ARGS__) STEP(s1, __VA_ARGS__) STEP(s2, __VA_ARGS__) STEP(s3, __VA_ARGS__)                     \
    STEP(s4, __VA_ARGS__) STEP(s5, __VA_ARGS__) STEP(s6, __VA_ARGS__) STEP(s7, __VA_ARGS__)
#define ALL_EIGHT EACH(TT_TOTAL, w0) EACH(TT_SCALE, w0, w1, x0) EACH(TT_SHIFT, x1) EACH(TT_SATURATE)
#define FROM(a, b, pair) "ldrd %[" #a "], %[" #b "], %[" #pair "]\n\t"
#define STORE_FOUR(s0, s1, s2, s3)                   \
    "strb %[" #s0 "], [%[x0]]\n\t"                   \
    "strb %[" #s1 "], [%[x0], %[x1]]\n\t"            \
    "strb %[" #s2 "], [%[x0], %[x1], lsl #1]\n\t"    \
    "strb %[" #s3 "], [%[x0], %[w0]]\n\t"            \
    "add %[x0], %[x0], %[x1], lsl #2\n\t"

// Windows of three rows. Where one is outside the image, its taps are zeros, and the three rows any that are near.
#define THREE_ROWS(ROW)                                                                                         \
    "1:\t" FROM(w0, w1, taps0) ROW(SET_PAIR, SET_HIGH)                                                          \
    "add %[x], %[x], %[pitch]\n\t" FROM(w0, w1, taps1) ROW(PAIR, HIGH)                                          \
    "add %[x], %[x], %[pitch]\n\t" FROM(w0, w1, taps2) ROW(PAIR, HIGH)                                          \
    FROM(w0, w1, scale) FROM(x0, x1, shift) ALL_EIGHT                                                           \
    FROM(x0, w0, to) FROM(x1, w1, steps) STORE_FOUR(s0, s1, s2, s3) STORE_FOUR(s4, s5, s6, s7)                  \
    "str %[x0], %[to]\n\t"                                                                                      \
    "add %[x], %[x], %[w1]\n\t"                                                                                 \
    "ldr %[w0], %[count]\n\t"                                                                                   \
    "subs %[w0], %[w0], #1\n\t"                                                                                 \
    "str %[w0], %[count]\n\t"                                                                                   \
    "bne 1b\n\t" FROM(w0, w1, rows) FROM(s0, s1, again)                                                         \
    "add %[x], %[x], %[w1]\n\t"                                                                                 \
    "add %[x0], %[x0], %[s1]\n\t"                                                                               \
    "str %[x0], %[to]\n\t"                                                                                      \
    "str %[s0], %[count]\n\t"                                                                                   \
    "subs %[w0], %[w0], #1\n\t"                                                                                 \
    "str %[w0], %[rows]\n\t"                                                                                    \
    "bne 1b"
#define EIGHT_AT_ONCE(NAME, ROW, x_bytes)                                                                             \
    TT_INNER_LOOP static void NAME(const tt_strip *s) {                                                               \
        const int32_t pitch = s->pitch, step = s->step, all = s->count, x_extra = s->x_row - all * x_bytes;           \
        const tt_frame steps = {step, x_bytes - 2 * pitch}, again = {all, s->y_row - 8 * all * step};                 \
        int32_t y0 = s->y0;                                                                                           \
        int8_t *y = s->y;                                                                                             \
        for (int32_t left = s->rows, alike; left > 0; left -= alike) {                                                \
            const int32_t at = tt_max(tt_min(y0, s->end_row - 3), s->first_row);                                      \
            alike = tt_rows_alike(s, y0, left);                                                                       \
            for (int32_t lane = 0; lane < TT_PLANES; lane++) {                                                        \
                const tt_channel *c = s->channels + lane;                                                             \
                const tt_frame scale = {c->twice_bias, c->multiplier}, shift = {c->addend, c->right};                 \
                const uint32_t *x = tt_row_at(s, at, lane), *w = s->weights + 6 * lane;                               \
                const tt_frame taps0 = tt_taps_of(s, w, y0, at), taps1 = tt_taps_of(s, w, y0, at + 1);                \
                const tt_frame taps2 = tt_taps_of(s, w, y0, at + 2);                                                  \
                tt_frame rows = {alike, x_extra};                                                                     \
                tt_frame_place to = {y + lane, 3 * step};                                                             \
                int32_t count = all;                                                                                  \
                uint32_t x0, x1, w0, w1, s0, s1, s2, s3, s4, s5, s6, s7;                                              \
                __asm__ volatile(THREE_ROWS(ROW)                                                                      \
                                 : [x] "+&r"(x), [to] "+m"(to), [rows] "+m"(rows), [count] "+m"(count),               \
                                   [x0] "=&r"(x0), [x1] "=&r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1), [s0] "=&r"(s0),    \
                                   [s1] "=&r"(s1), [s2] "=&r"(s2), [s3] "=&r"(s3), [s4] "=&r"(s4), [s5] "=&r"(s5),    \
                                   [s6] "=&r"(s6), [s7] "=&r"(s7)                                                     \
                                 : [pitch] "r"(pitch), [taps0] "m"(taps0), [taps1] "m"(taps1), [taps2] "m"(taps2),    \
                                   [scale] "m"(scale), [shift] "m"(shift), [steps] "m"(steps), [again] "m"(again)     \
                                 : "cc", "memory");                                                                   \
            }                                                                                                         \
            y0 += alike * s->stride;                                                                                  \
            y += alike * s->y_row;                                                                                    \
        }                                                                                                             \
    }

// Windows of any number of rows, those inside the image. Where fewer than four outputs are wanted, others lie where the
// last of them will.
#define ALL_ROWS(ROW, x_bytes)                                                                                  \
    "1:\t"                                                                                                      \
    "ldr %[x], %[from]\n\t"                                                                                     \
    "ldr %[w], %[w_of]\n\t" ROW(SET_PAIR, SET_HIGH)                                                             \
    "cmp %[w], %[end]\n\t"                                                                                      \
    "beq 3f\n"                                                                                                  \
    "2:\t"                                                                                                      \
    "add %[x], %[x], %[pitch]\n\t" ROW(PAIR, HIGH)                                                              \
    "cmp %[w], %[end]\n\t"                                                                                      \
    "bne 2b\n"                                                                                                  \
    "3:\t" FROM(w0, w1, scale) FROM(x0, x1, shift) TT_OUTPUTS(s0, s1, s2, s3, w0, w1, x0, x1)                   \
    FROM(x0, x1, to) FROM(w0, w1, near)                                                                         \
    "strb %[s3], [%[x0], %[x1]]\n\t"                                                                            \
    "strb %[s2], [%[x0], %[w1]]\n\t"                                                                            \
    "strb %[s1], [%[x0], %[w0]]\n\t"                                                                            \
    "strb %[s0], [%[x0]]\n\t"                                                                                   \
    "add %[x0], %[x0], %[w0], lsl #2\n\t"                                                                       \
    "str %[x0], %[to]\n\t" FROM(x1, w0, from)                                                                   \
    "add %[x1], %[x1], #" #x_bytes "\n\t"                                                                       \
    "subs %[w0], %[w0], #1\n\t"                                                                                 \
    "strd %[x1], %[w0], %[from]\n\t"                                                                            \
    "bne 1b\n\t" FROM(w0, w1, rows) FROM(s0, s1, again)                                                         \
    "add %[x1], %[x1], %[w1]\n\t"                                                                               \
    "strd %[x1], %[s0], %[from]\n\t"                                                                            \
    "add %[x0], %[x0], %[s1]\n\t"                                                                               \
    "str %[x0], %[to]\n\t"                                                                                      \
    "subs %[w0], %[w0], #1\n\t"                                                                                 \
    "str %[w0], %[rows]\n\t"                                                                                    \
    "bne 1b"
#define FOUR_AT_ONCE(NAME, ROW, x_bytes)                                                                              \
    TT_INNER_LOOP static void NAME(const tt_strip *s) {                                                               \
        const int32_t pitch = s->pitch, all = s->count, last = s->outputs - 1, far = last * s->step;                  \
        const int32_t x_extra = s->x_row - all * x_bytes, taps = s->taps, plane = s->height * taps;                   \
        const tt_frame near = {tt_min(1, last) * s->step, tt_min(2, last) * s->step};                                 \
        const tt_frame again = {all, s->y_row - 4 * all * near.first};                                                \
        int32_t y0 = s->y0;                                                                                           \
        int8_t *y = s->y;                                                                                             \
        for (int32_t left = s->rows, alike; left > 0; left -= alike) {                                                \
            const int32_t at = tt_max(y0, s->first_row), before = (at - y0) * taps;                                   \
            const int32_t inside = tt_min(s->height, s->end_row - y0) * taps;                                         \
            const uint32_t *weights = s->weights;                                                                     \
            alike = tt_rows_alike(s, y0, left);                                                                       \
            for (int32_t lane = 0; lane < TT_PLANES; lane++, weights += plane) {                                      \
                const tt_channel *c = s->channels + lane;                                                             \
                const tt_frame scale = {c->twice_bias, c->multiplier}, shift = {c->addend, c->right};                 \
                const uint32_t *w_of = weights + before, *end = weights + inside;                                     \
                tt_frame_place from = {tt_row_at(s, at, lane), all}, to = {y + lane, far};                            \
                tt_frame rows = {alike, x_extra};                                                                     \
                uint32_t x, w, x0, x1, x2, w0, w1, w2, s0, s1, s2, s3;                                                \
                __asm__ volatile(ALL_ROWS(ROW, x_bytes)                                                               \
                                 : [to] "+m"(to), [from] "+m"(from), [rows] "+m"(rows), [x] "=&r"(x), [w] "=&r"(w),   \
                                   [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2), [w0] "=&r"(w0), [w1] "=&r"(w1),    \
                                   [w2] "=&r"(w2), [s0] "=&r"(s0), [s1] "=&r"(s1), [s2] "=&r"(s2), [s3] "=&r"(s3)     \
                                 : [pitch] "r"(pitch), [end] "r"(end), [w_of] "m"(w_of), [scale] "m"(scale),          \
                                   [shift] "m"(shift), [near] "m"(near), [again] "m"(again)                           \
                                 : "cc", "memory");                                                                   \
            }                                                                                                         \
            y0 += alike * s->stride;                                                                                  \
            y += alike * s->y_row;                                                                                    \
        }                                                                                                             \
    }
EIGHT_AT_ONCE(tt_eight_3, EIGHT_3, 16)
EIGHT_AT_ONCE(tt_eight_3_by_2, EIGHT_3_BY_2, 32)
FOUR_AT_ONCE(tt_four_3, FOUR_3, 8)
FOUR_AT_ONCE(tt_four_5, FOUR_5, 8)
FOUR_AT_ONCE(tt_four_7, FOUR_7, 8)
FOUR_AT_ONCE(tt_four_3_by_2, FOUR_3_BY_2, 16)
FOUR_AT_ONCE(tt_four_5_by_2, FOUR_5_BY_2, 16)
FOUR_AT_ONCE(tt_four_7_by_2, FOUR_7_BY_2, 16)

// Windows of any height, or of three rows where eight outputs are wanted at once. No pointers to functions: a stack's
// bound needs to see every call.
static inline void tt_add_strip(const tt_strip *s, int32_t width, int32_t stride) {
    switch (width + stride * 8 + s->outputs / 8 * 64) {
        case 3 + 8 + 64: tt_eight_3(s); break;
        case 3 + 16 + 64: tt_eight_3_by_2(s); break;
        case 3 + 8: tt_four_3(s); break;
        case 5 + 8: tt_four_5(s); break;
        case 7 + 8: tt_four_7(s); break;
        case 3 + 16: tt_four_3_by_2(s); break;
        case 5 + 16: tt_four_5_by_2(s); break;
        default: tt_four_7_by_2(s); break;
    }
}

#endif
