// SPDX-License-Identifier: Apache-2.0
// Outputs of rows of planes (tinytrain/dsp_planes.h): windows 3, 5 or 7 wide over pairs of pixels, for stride 1 or 2.
// On cores with the DSP instructions. gcc would not load words in pairs, and spill what the loops need all the time.
#ifndef TINYTRAIN_DSP_WINDOWS_H
#define TINYTRAIN_DSP_WINDOWS_H

#include "tinytrain/dsp_output.h"
#include "tinytrain/dsp_planes.h"

// Outputs next to each other. Taps are doubled and sums begin with a doubled bias: what tt_channel scales. Instructions
// that add to a sum: both products of a pair of pixels and a pair of taps, or those of the second pixel and first tap,
// of the first pixel and second tap, of the firsts of both. A channel's words are at 0 and 4, 32 and 36, and so on.
#define ADD(op, s, x, w, to) op " %[" #s "], %[" #x "], %[" #w "], %[" #to "]\n\t"
#define PAIR(s, x, w) ADD("smlad", s, x, w, s)
#define HIGH(s, x, w) ADD("smlatb", s, x, w, s)
#define LAST(s, x, w) ADD("smlabt", s, x, w, s)
#define LOW(s, x, w) ADD("smlabb", s, x, w, s)
#define TAPS_AND(move, a, b) "ldrd %[" #a "], %[" #b "], [%[w]], #" #move "\n\t"
#define TAPS(a, b) TAPS_AND(8, a, b)
#define TAP(a) "ldr %[" #a "], [%[w]], #4\n\t"
#define LOAD_TWO(a, b, at) "ldrd %[" #a "], %[" #b "], [%[x], #" #at "]\n\t"
#define LOAD(a, at) "ldr %[" #a "], [%[x], #" #at "]\n\t"

// A window's row of eight outputs, 3 or 5 wide, or of four. Taps for stride 1: 0 and 1, 1 and 2, 2 and 3 and so on; for
// stride 2: 0 and 1, 2 and 3 and so on, the last one alone. BOTH and SECOND are the first to add to a sum: in the first
// row of a window they begin with the bias, which waits in the last sum's register.
#define BOTH_TO_BIAS(s, x, w) ADD("smlad", s, x, w, s7)
#define SECOND_TO_BIAS(s, x, w) ADD("smlatb", s, x, w, s7)
#define EIGHT_3(BOTH, SECOND)                                                                                   \
    LOAD_TWO(x0, x1, 0) BOTH(s0, x0, w0) SECOND(s1, x0, w0) LAST(s0, x1, w1) PAIR(s1, x1, w1)                   \
    BOTH(s2, x1, w0) SECOND(s3, x1, w0)                                                                         \
    LOAD_TWO(x0, x1, 32) LAST(s2, x0, w1) PAIR(s3, x0, w1) BOTH(s4, x0, w0) SECOND(s5, x0, w0)                  \
    LAST(s4, x1, w1) PAIR(s5, x1, w1) BOTH(s6, x1, w0) SECOND(s7, x1, w0)                                       \
    LOAD(x0, 64) LAST(s6, x0, w1) PAIR(s7, x0, w1)
// No register is left for six words of pixels: the first taps pass over them from left to right, the last ones back.
// Those of the last row go back to the first row's.
#define EIGHT_5(BOTH, SECOND, MOVE)                                                                             \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) BOTH(s0, x0, w0) SECOND(s1, x0, w0) PAIR(s1, x1, w1) BOTH(s2, x1, w0) SECOND(s3, x1, w0) \
    LOAD_TWO(x0, x1, 32) PAIR(s3, x0, w1) BOTH(s4, x0, w0) SECOND(s5, x0, w0) PAIR(s5, x1, w1) BOTH(s6, x1, w0) \
    SECOND(s7, x1, w0)                                                                                          \
    LOAD_TWO(x0, x1, 64) PAIR(s7, x0, w1)                                                                       \
    TAPS_AND(MOVE, w0, w1) LAST(s6, x1, w1) PAIR(s7, x1, w1) PAIR(s6, x0, w0) LAST(s4, x0, w1) PAIR(s5, x0, w1) \
    LOAD_TWO(x0, x1, 32) PAIR(s4, x1, w0) LAST(s2, x1, w1) PAIR(s3, x1, w1) PAIR(s2, x0, w0) LAST(s0, x0, w1)   \
    PAIR(s1, x0, w1)                                                                                            \
    LOAD(x1, 4) PAIR(s0, x1, w0)
#define EIGHT_3_BY_2(BOTH, SECOND)                                                                              \
    LOAD_TWO(x0, x1, 0) BOTH(s0, x0, w0) LOW(s0, x1, w1) BOTH(s1, x1, w0)                                       \
    LOAD_TWO(x0, x1, 32) LOW(s1, x0, w1) BOTH(s2, x0, w0) LOW(s2, x1, w1) BOTH(s3, x1, w0)                      \
    LOAD_TWO(x0, x1, 64) LOW(s3, x0, w1) BOTH(s4, x0, w0) LOW(s4, x1, w1) BOTH(s5, x1, w0)                      \
    LOAD_TWO(x0, x1, 96) LOW(s5, x0, w1) BOTH(s6, x0, w0) LOW(s6, x1, w1) BOTH(s7, x1, w0)                      \
    LOAD(x0, 128) LOW(s7, x0, w1)
#define FOUR_3                                                                                                  \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) PAIR(s0, x0, w0) HIGH(s1, x0, w0) PAIR(s2, x1, w0) HIGH(s3, x1, w0)                     \
    LOAD(x0, 32) LAST(s0, x1, w1) PAIR(s1, x1, w1) LAST(s2, x0, w1) PAIR(s3, x0, w1)
#define FOUR_3_BY_2                                                                                             \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) PAIR(s0, x0, w0) LOW(s0, x1, w1) PAIR(s1, x1, w0)                                       \
    LOAD_TWO(x0, x1, 32) LOW(s1, x0, w1) PAIR(s2, x0, w0) LOW(s2, x1, w1) PAIR(s3, x1, w0)                      \
    LOAD(x0, 64) LOW(s3, x0, w1)
#define FOUR_5_OR_7                                                                                             \
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) PAIR(s0, x0, w0) HIGH(s1, x0, w0) PAIR(s2, x1, w0) HIGH(s3, x1, w0)                     \
    LOAD_TWO(x2, x0, 32) PAIR(s1, x1, w1) PAIR(s3, x2, w1)                                                      \
    TAPS(w0, w1) PAIR(s0, x1, w0) PAIR(s2, x2, w0) PAIR(s1, x2, w1) PAIR(s3, x0, w1)
#define FOUR_5 FOUR_5_OR_7 LAST(s0, x2, w1) LAST(s2, x0, w1)
#define FOUR_7                                                                                                  \
    FOUR_5_OR_7                                                                                                 \
    TAPS(w0, w1) LOAD(x1, 64) PAIR(s0, x2, w0) PAIR(s2, x0, w0) PAIR(s1, x0, w1) PAIR(s3, x1, w1)               \
    LAST(s0, x0, w1) LAST(s2, x1, w1)
#define FOUR_5_BY_2                                                                                             \
    TAPS(w0, w1) TAP(w2)                                                                                        \
    LOAD_TWO(x0, x1, 0) PAIR(s0, x0, w0) PAIR(s0, x1, w1) PAIR(s1, x1, w0)                                      \
    LOAD_TWO(x0, x1, 32) LOW(s0, x0, w2) PAIR(s1, x0, w1) LOW(s1, x1, w2) PAIR(s2, x0, w0) PAIR(s2, x1, w1)     \
    PAIR(s3, x1, w0)                                                                                            \
    LOAD_TWO(x0, x1, 64) LOW(s2, x0, w2) PAIR(s3, x0, w1) LOW(s3, x1, w2)
#define FOUR_7_BY_2                                                                                             \
    TAPS(w0, w1) TAPS(w2, x2)                                                                                   \
    LOAD_TWO(x0, x1, 0) PAIR(s0, x0, w0) PAIR(s0, x1, w1) PAIR(s1, x1, w0)                                      \
    LOAD_TWO(x0, x1, 32) PAIR(s0, x0, w2) LOW(s0, x1, x2) PAIR(s1, x0, w1) PAIR(s1, x1, w2) PAIR(s2, x0, w0)    \
    PAIR(s2, x1, w1) PAIR(s3, x1, w0)                                                                           \
    LOAD_TWO(x0, x1, 64) LOW(s1, x0, x2) PAIR(s2, x0, w2) LOW(s2, x1, x2) PAIR(s3, x0, w1) PAIR(s3, x1, w2)     \
    LOAD(x0, 96) LOW(s3, x0, x2)

// From the window of an output to that of the fourth one after it, for stride 1.
enum { TT_FOUR_BYTES = TT_QUAD_WORDS * 4 };

// Rows of outputs whose windows use the same rows of taps.
typedef struct tt_run {
    int32_t x, next;    // bytes from the first row in the planes to the first one seen, from below a window to the next
    int32_t taps, end;  // bytes from a lane's taps to the first ones used, to those behind the last
    int32_t rows;       // 0: there are no more runs
} tt_run;

// Rows of outputs of four channels, `count` times eight or four side by side, or one time fewer.
typedef struct tt_strip {
    const uint32_t *x;            // the first row in the planes, where the first window begins
    const uint32_t *weights;      // [TT_PLANES, height, taps], a lane has weights_lane words
    tt_run *runs;                 // room for 2 * height: height - 1 windows at most lack rows above, so many below
    const tt_channel *channels;
    int8_t *y;                    // the first output of the first channel
    int32_t rows, y0, stride;     // y0: the row of the image that the first row's windows begin at
    int32_t top;                  // the row of the image that the planes begin at, y0 or below
    int32_t first_row, end_row;   // rows of the image to look at; others in the planes are zeros
    int32_t height, width, taps;  // of a window; words of a row of taps
    int32_t weights_lane, stride_width;
    int32_t pitch;                // bytes of a row in the planes
    int32_t y_row, step;          // bytes of a row of y, from an output to the next one of the channel
    int32_t ties;                 // tt_ties_matter
    int32_t count, outputs;       // outputs: of the last eight or four
} tt_strip;

// Whether a negative total needs the one less that tt_channel's addend becomes. Without it (t + half) >> right, with it
// (t + half - 1) >> right: t <= 0, so both are 0 or less, and both outputs the zero point or less. A clamp that begins
// there or above, as that of any ReLU, makes them the same.
static inline int32_t tt_ties_matter(const tt_output *o) { return o->low < o->zero_point; }

// Two words of an asm statement's frame: no register is left for what the sums do not need all the time.
typedef struct tt_frame {
    int32_t first, second;
} tt_frame;

typedef struct tt_places {
    const void *first, *second;
} tt_places;

#define FROM(a, b, pair) "ldrd %[" #a "], %[" #b "], %[" #pair "]\n\t"
#define ALL_FOUR(STEP) STEP(s0) STEP(s1) STEP(s2) STEP(s3)
#define ALL_EIGHT(STEP) ALL_FOUR(STEP) STEP(s4) STEP(s5) STEP(s6) STEP(s7)
#define SCALE(s) "smmlar %[" #s "], %[" #s "], %[w0], %[w1]\n\t"
#define SCALE_WITH_TIES(s) "smmlar %[x1], %[" #s "], %[w0], %[w1]\n\tadd %[" #s "], %[x1], %[" #s "], asr #31\n\t"
#define SHIFT(s) "asr %[" #s "], %[" #s "], %[x0]\n\t"
#define SATURATE(s) "ssat %[" #s "], #8, %[" #s "]\n\t"
#define REQUANTIZE(ALL)                                                                                         \
    FROM(w0, w1, scale) FROM(x0, x1, shift)                                                                     \
    "cbz %[x1], 4f\n\t" ALL(SCALE_WITH_TIES)                                                                    \
    "b 5f\n"                                                                                                    \
    "4:\t" ALL(SCALE)                                                                                           \
    "5:\t" ALL(SHIFT) ALL(SATURATE)

#define NEXT_ROW_OF_OUTPUTS                                                                                     \
    FROM(s0, s1, again) FROM(w0, w1, rows)                                                                      \
    "add %[x0], %[x0], %[s0]\n\t"                                                                               \
    "add %[x1], %[x1], %[s1]\n\t"                                                                               \
    "strd %[x0], %[x1], %[to]\n\t"                                                                              \
    "add %[x], %[x], %[w1]\n\t"                                                                                 \
    "subs %[w0], %[w0], #1\n\t"                                                                                 \
    "str %[w0], %[rows]\n\t"                                                                                    \
    "bne 1b\n"

// Eight outputs at a time, windows of three or five rows that are all in the planes. Where fewer than eight are wanted,
// others lie where the last of them will. Three rows keep the pitch in a register, five the taps.
#define EIGHT_OUTPUTS                                                                                           \
    REQUANTIZE(ALL_EIGHT)                                                                                       \
    FROM(x0, x1, to)                                                                                            \
    FROM(w0, w1, sixth) "strb %[s7], [%[x0], %[w1]]\n\tstrb %[s6], [%[x0], %[w0]]\n\t"                          \
    FROM(w0, w1, third) "strb %[s5], [%[x0], %[w1]]\n\tstrb %[s3], [%[x0], %[w0]]\n\t"                          \
    FROM(w0, w1, steps) "strb %[s4], [%[x0], %[w0], lsl #2]\n\tstrb %[s2], [%[x0], %[w0], lsl #1]\n\t"          \
    "strb %[s1], [%[x0], %[w0]]\n\tstrb %[s0], [%[x0]]\n\t"                                                     \
    "add %[x0], %[x0], %[w0], lsl #3\n\t"                                                                       \
    "str %[x0], %[to]\n\t"                                                                                      \
    "add %[x], %[x], %[w1]\n\t"                                                                                 \
    "cmp %[x0], %[x1]\n\t"                                                                                      \
    "bne 1b\n\t" NEXT_ROW_OF_OUTPUTS
#define THREE_ROWS(ROW)                                                                                         \
    "1:\t"                                                                                                      \
    "ldr %[s7], %[bias]\n\t" FROM(w0, w1, taps0) ROW(BOTH_TO_BIAS, SECOND_TO_BIAS)                              \
    "add %[x], %[x], %[pitch]\n\t" FROM(w0, w1, taps1) ROW(PAIR, HIGH)                                          \
    "add %[x], %[x], %[pitch]\n\t" FROM(w0, w1, taps2) ROW(PAIR, HIGH) EIGHT_OUTPUTS
#define ROW_BELOW(MOVE) "ldr %[x0], %[pitch]\n\tadd %[x], %[x], %[x0]\n\t" EIGHT_5(PAIR, HIGH, MOVE)
#define FIVE_ROWS                                                                                               \
    "1:\t"                                                                                                      \
    "ldr %[s7], %[bias]\n\t" EIGHT_5(BOTH_TO_BIAS, SECOND_TO_BIAS, 8)                                           \
    ROW_BELOW(8) ROW_BELOW(8) ROW_BELOW(8) ROW_BELOW(-72) EIGHT_OUTPUTS
#define RUN_EIGHT(TEXT, ...)                                                                                          \
    __asm__ volatile(TEXT                                                                                             \
                     : [x] "+&r"(x), [to] "+m"(to), [rows] "+m"(rows), [x0] "=&r"(x0), [x1] "=&l"(x1),                \
                       [w0] "=&r"(w0), [w1] "=&r"(w1), [s0] "=&r"(s0), [s1] "=&r"(s1), [s2] "=&r"(s2),                \
                       [s3] "=&r"(s3), [s4] "=&r"(s4), [s5] "=&r"(s5), [s6] "=&r"(s6), [s7] "=&r"(s7) __VA_ARGS__,    \
                       [bias] "m"(bias), [scale] "m"(scale), [shift] "m"(shift), [again] "m"(again),                  \
                       [steps] "m"(steps), [third] "m"(third), [sixth] "m"(sixth)                                    \
                     : "cc", "memory")
#define RUN_THREE_ROWS(ROW)                                                                                    \
    RUN_EIGHT(THREE_ROWS(ROW), : [pitch] "r"(pitch), [taps0] "m"(w[0]), [taps1] "m"(w[1]), [taps2] "m"(w[2]))

TT_INNER_LOOP static void tt_add_eights(const tt_strip *s) {
    const int32_t pitch = s->pitch, step = s->step, last = s->outputs - 1, row = 8 * s->count * step;
    const int32_t x_bytes = s->stride_width * 2 * TT_FOUR_BYTES;
    const tt_frame steps = {step, x_bytes - (s->height - 1) * pitch}, again = {s->y_row - row, s->y_row};
    const tt_frame third = {3 * step, tt_min(5, last) * step}, sixth = {tt_min(6, last) * step, last * step};
    tt_frame rows = {0, s->stride * pitch - s->count * x_bytes}, shift = {0, s->ties};
    for (int32_t lane = 0; lane < TT_PLANES; lane++) {
        const tt_channel *c = s->channels + lane;
        const uint32_t *taps = s->weights + lane * s->weights_lane;
        const tt_frame scale = {c->multiplier, c->addend};
        const int32_t bias = c->twice_bias;
        tt_places to = {s->y + lane, s->y + lane + row};
        const uint32_t *x = s->x + 2 * lane;
        uint32_t x0, x1, w0, w1, s0, s1, s2, s3, s4, s5, s6, s7;
        rows.first = s->rows;
        shift.first = c->right;
        if (s->width == 5) {
            RUN_EIGHT(FIVE_ROWS, , [w] "+&r"(taps) : [pitch] "m"(pitch));
            continue;
        }
        const tt_frame *const pairs = (const tt_frame *)(const void *)taps;
        const tt_frame w[3] = {pairs[0], pairs[1], pairs[2]};
        if (s->stride_width == 1) {
            RUN_THREE_ROWS(EIGHT_3);
        } else {
            RUN_THREE_ROWS(EIGHT_3_BY_2);
        }
    }
}

// Four outputs at a time, windows of any number of rows, those in the planes. Where fewer than four are wanted, others
// lie where the last of them will. It begins at 3, where a run of rows does.
#define ALL_ROWS(ROW)                                                                                           \
    "b 3f\n"                                                                                                    \
    "1:\t"                                                                                                      \
    "ldr %[w], %[w_of]\n\t" FROM(s0, s1, bias) FROM(s2, s3, bias)                                               \
    "\n2:\t" ROW                                                                                                \
    "add %[x], %[x], %[pitch]\n\t"                                                                              \
    "cmp %[w], %[end]\n\t"                                                                                      \
    "bne 2b\n\t" REQUANTIZE(ALL_FOUR)                                                                           \
    FROM(x0, x1, to) FROM(w0, w1, near) FROM(x2, w2, moves)                                                     \
    "strb %[s3], [%[x0], %[w2]]\n\t"                                                                            \
    "strb %[s2], [%[x0], %[w1]]\n\t"                                                                            \
    "strb %[s1], [%[x0], %[w0]]\n\t"                                                                            \
    "strb %[s0], [%[x0]]\n\t"                                                                                   \
    "add %[x0], %[x0], %[w0], lsl #2\n\t"                                                                       \
    "str %[x0], %[to]\n\t"                                                                                      \
    "add %[x], %[x], %[x2]\n\t"                                                                                 \
    "cmp %[x0], %[x1]\n\t"                                                                                      \
    "bne 1b\n\t" NEXT_ROW_OF_OUTPUTS                                                                            \
    "3:\t"                                                                                                      \
    "ldr %[w], %[run]\n\t"                                                                                      \
    "ldrd %[x], %[x2], [%[w]], #8\n\t"                                                                          \
    "ldrd %[w0], %[end], [%[w]], #8\n\t"                                                                        \
    "ldr %[w1], [%[w]], #4\n\t"                                                                                 \
    "str %[w], %[run]\n\t" FROM(s0, s1, lane)                                                                   \
    "str %[x2], %[moves]\n\t"                                                                                   \
    "add %[x], %[x], %[s0]\n\t"                                                                                 \
    "add %[w0], %[w0], %[s1]\n\t"                                                                               \
    "str %[w0], %[w_of]\n\t"                                                                                    \
    "add %[end], %[end], %[s1]\n\t"                                                                             \
    "str %[w1], %[rows]\n\t"                                                                                    \
    "cmp %[w1], #0\n\t"                                                                                         \
    "bne 1b"
#define RUN_FOUR(ROW)                                                                                                 \
    __asm__ volatile(ALL_ROWS(ROW)                                                                                    \
                     : [to] "+m"(to), [moves] "+m"(moves), [rows] "+m"(rows), [run] "+m"(run), [w_of] "=m"(w_of),     \
                       [x] "=&r"(x), [w] "=&r"(w), [end] "=&r"(end), [x0] "=&r"(x0), [x1] "=&l"(x1), [x2] "=&r"(x2),  \
                       [w0] "=&r"(w0), [w1] "=&r"(w1), [w2] "=&r"(w2), [s0] "=&r"(s0), [s1] "=&r"(s1),                \
                       [s2] "=&r"(s2), [s3] "=&r"(s3)                                                                 \
                     : [pitch] "r"(pitch), [lane] "m"(lane), [bias] "m"(bias), [scale] "m"(scale),                    \
                       [shift] "m"(shift), [near] "m"(near), [again] "m"(again)                                       \
                     : "cc", "memory")

// A run for each row of outputs whose windows are partly above or below the planes; one for all others.
static inline void tt_list_runs(const tt_strip *s) {
    const int32_t row = 4 * s->taps;
    tt_run *run = s->runs;
    int32_t y0 = s->y0 - s->first_row;
    const int32_t above = s->first_row - s->top;
    for (int32_t left = s->rows; left > 0; left -= run->rows, run++) {
        const int32_t first = tt_max(0, -y0), rows_below = s->end_row - s->first_row - y0;
        const int32_t last = tt_min(s->height, rows_below);
        run->x = (above + y0 + first) * s->pitch;
        run->taps = first * row;
        run->end = last * row;
        run->next = s->stride_width * TT_FOUR_BYTES - (last - first) * s->pitch;
        run->rows = first > 0 || rows_below < s->height ? 1 : tt_min(left, (rows_below - s->height) / s->stride + 1);
        y0 += run->rows * s->stride;
    }
    run->rows = 0;
}

TT_INNER_LOOP static void tt_add_fours(const tt_strip *s) {
    const int32_t pitch = s->pitch, all = s->count, last = s->outputs - 1, kind = s->width + 8 * s->stride_width;
    const int32_t x_bytes = s->stride_width * TT_FOUR_BYTES, row = 4 * all * tt_min(1, last) * s->step;
    const tt_frame near = {tt_min(1, last) * s->step, tt_min(2, last) * s->step};
    const tt_frame again = {s->y_row - row, s->y_row};
    tt_frame rows = {0, s->stride * pitch - all * x_bytes}, moves = {0, last * s->step}, shift = {0, s->ties};
    for (int32_t i = 0; i < TT_PLANES; i++) {
        const tt_channel *c = s->channels + i;
        const tt_frame bias = {c->twice_bias, c->twice_bias}, scale = {c->multiplier, c->addend};
        const tt_places lane = {s->x + 2 * i, s->weights + i * s->weights_lane};
        const tt_run *run = s->runs;
        tt_places to = {s->y + i, s->y + i + row};
        const uint32_t *w_of;
        uint32_t x, w, end, x0, x1, x2, w0, w1, w2, s0, s1, s2, s3;
        shift.first = c->right;
        switch (kind) {
            case 3 + 8: RUN_FOUR(FOUR_3); break;
            case 5 + 8: RUN_FOUR(FOUR_5); break;
            case 7 + 8: RUN_FOUR(FOUR_7); break;
            case 3 + 16: RUN_FOUR(FOUR_3_BY_2); break;
            case 5 + 16: RUN_FOUR(FOUR_5_BY_2); break;
            default: RUN_FOUR(FOUR_7_BY_2); break;
        }
    }
}

#endif
