// SPDX-License-Identifier: Apache-2.0
// Outputs of a row of a plane (tinytrain/dsp_planes.h): windows 3, 5 or 7 wide over pairs of pixels, for stride 1 or 2.
// On cores with the DSP instructions. gcc would not load words in pairs, and spill what the loops need all the time.
#ifndef TINYTRAIN_DSP_WINDOWS_H
#define TINYTRAIN_DSP_WINDOWS_H

#include "tinytrain/dsp_output.h"

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
    TAPS(w0, w1)                                                                                                \
    LOAD_TWO(x0, x1, 0) FIRST(s0, x0, w0) HIGH1(s1, x0, w0) LAST(s0, x1, w1) PAIR(s1, x1, w1)                   \
    FIRST(s2, x1, w0) HIGH1(s3, x1, w0)                                                                         \
    LOAD_TWO(x0, x1, 8) LAST(s2, x0, w1) PAIR(s3, x0, w1) FIRST(s4, x0, w0) HIGH1(s5, x0, w0)                   \
    LAST(s4, x1, w1) PAIR(s5, x1, w1) FIRST(s6, x1, w0) HIGH1(s7, x1, w0)                                       \
    LOAD(x0, 16) LAST(s6, x0, w1) PAIR(s7, x0, w1)
#define EIGHT_3_BY_2(FIRST, HIGH1)                                                                              \
    TAPS(w0, w1)                                                                                                \
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

// Outputs of a row of a plane: `count` times four or eight.
typedef struct tt_strip {
    const uint32_t *x;            // the first output's window
    const uint32_t *w, *w_end;    // the window's rows inside the image
    int32_t pitch_bytes;
    const tt_channel *channel;
    int8_t *y;
    int32_t step, count;
} tt_strip;

// ROW: one of the above, NEXT and MORE: to the next row of the window, and whether there is one. ALL: what TT_OUTPUTS does.
#define OUTPUTS_OF(ROW, NEXT, MORE, ALL, STORE, x_bytes)                                                        \
    "1:\t"                                                                                                      \
    "ldr %[x], %[x_of]\n\t"                                                                                     \
    "ldr %[w], %[w_of]\n\t" ROW(SET_PAIR, SET_HIGH) MORE                                                        \
    "beq 3f\n"                                                                                                  \
    "2:\t" NEXT ROW(PAIR, HIGH) MORE                                                                            \
    "bne 2b\n"                                                                                                  \
    "3:\t"                                                                                                      \
    "ldr %[x1], %[channel]\n\t"                                                                                 \
    "ldrd %[w0], %[w1], [%[x1]]\n\t"                                                                            \
    "ldrd %[x0], %[x1], [%[x1], #8]\n\t" ALL                                                                    \
    "ldr %[x], %[y]\n\t"                                                                                        \
    "ldr %[w], %[step]\n\t" STORE                                                                               \
    "str %[x], %[y]\n\t"                                                                                        \
    "ldr %[x], %[x_of]\n\t"                                                                                     \
    "ldr %[w], %[count]\n\t"                                                                                    \
    "add %[x], %[x], #" #x_bytes "\n\t"                                                                         \
    "str %[x], %[x_of]\n\t"                                                                                     \
    "subs %[w], %[w], #1\n\t"                                                                                   \
    "str %[w], %[count]\n\t"                                                                                    \
    "bne 1b"
#define EACH(STEP, ...)                                                                                         \
    STEP(s0, __VA_ARGS__) STEP(s1, __VA_ARGS__) STEP(s2, __VA_ARGS__) STEP(s3, __VA_ARGS__)                     \
    STEP(s4, __VA_ARGS__) STEP(s5, __VA_ARGS__) STEP(s6, __VA_ARGS__) STEP(s7, __VA_ARGS__)
#define ALL_EIGHT EACH(TT_TOTAL, w0) EACH(TT_SCALE, w0, w1, x0) EACH(TT_SHIFT, x1) EACH(TT_SATURATE)
#define ALL_FOUR TT_OUTPUTS(s0, s1, s2, s3, w0, w1, x0, x1)
#define STORE_TWO(a, b)                   \
    "strb %[" #a "], [%[x]]\n\t"          \
    "strb %[" #b "], [%[x], %[w]]\n\t"    \
    "add %[x], %[x], %[w], lsl #1\n\t"
#define REGISTERS                                                                                                     \
    [x_of] "+m"(p.x), [y] "+m"(p.y), [count] "+m"(p.count), [x] "=&r"(x), [w] "=&r"(w), [x0] "=&r"(x0),               \
    [x1] "=&r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1), [s0] "=&r"(s0), [s1] "=&r"(s1), [s2] "=&r"(s2), [s3] "=&r"(s3)
#define ARGUMENTS [w_of] "m"(p.w), [channel] "m"(p.channel), [step] "m"(p.step)


// No register is left for what the eight sums do not need all the time; sp is the base of everything else.
#define EIGHT_AT_ONCE(NAME, ROW, x_bytes)                                                                             \
    TT_INNER_LOOP static void NAME(const tt_strip *strip) {                                                           \
        tt_strip p = *strip;                                                                                          \
        uint32_t x, w, x0, x1, w0, w1, s0, s1, s2, s3, s4, s5, s6, s7;                                                \
        __asm__ volatile(OUTPUTS_OF(ROW, "ldr %[x1], %[pitch]\n\tadd %[x], %[x], %[x1]\n\t",                          \
                                    "ldr %[x1], %[end]\n\tcmp %[w], %[x1]\n\t", ALL_EIGHT,                            \
                                    STORE_TWO(s0, s1) STORE_TWO(s2, s3) STORE_TWO(s4, s5) STORE_TWO(s6, s7), x_bytes) \
                         : REGISTERS, [s4] "=&r"(s4), [s5] "=&r"(s5), [s6] "=&r"(s6), [s7] "=&r"(s7)                  \
                         : ARGUMENTS, [pitch] "m"(p.pitch_bytes), [end] "m"(p.w_end)                                  \
                         : "cc", "memory");                                                                           \
    }
#define FOUR_AT_ONCE(NAME, ROW, x_bytes)                                                                              \
    TT_INNER_LOOP static void NAME(const tt_strip *strip) {                                                           \
        tt_strip p = *strip;                                                                                          \
        uint32_t x, w, x0, x1, x2, w0, w1, w2, s0, s1, s2, s3;                                                        \
        __asm__ volatile(OUTPUTS_OF(ROW, "add %[x], %[x], %[pitch]\n\t", "cmp %[w], %[end]\n\t", ALL_FOUR,            \
                                    STORE_TWO(s0, s1) STORE_TWO(s2, s3), x_bytes)                                     \
                         : REGISTERS, [x2] "=&r"(x2), [w2] "=&r"(w2)                                                  \
                         : ARGUMENTS, [pitch] "r"(p.pitch_bytes), [end] "r"(p.w_end)                                  \
                         : "cc", "memory");                                                                           \
    }
EIGHT_AT_ONCE(tt_eight_3, EIGHT_3, 16)
EIGHT_AT_ONCE(tt_eight_3_by_2, EIGHT_3_BY_2, 32)
FOUR_AT_ONCE(tt_four_3, FOUR_3, 8)
FOUR_AT_ONCE(tt_four_5, FOUR_5, 8)
FOUR_AT_ONCE(tt_four_7, FOUR_7, 8)
FOUR_AT_ONCE(tt_four_3_by_2, FOUR_3_BY_2, 16)
FOUR_AT_ONCE(tt_four_5_by_2, FOUR_5_BY_2, 16)
FOUR_AT_ONCE(tt_four_7_by_2, FOUR_7_BY_2, 16)

static inline void tt_add_windows(const tt_strip *p, int32_t width, int32_t stride, int32_t at_once) {
    switch (width + stride * 8 + at_once * 4) {
        case 3 + 8 + 32: tt_eight_3(p); break;
        case 3 + 16 + 32: tt_eight_3_by_2(p); break;
        case 3 + 8 + 16: tt_four_3(p); break;
        case 5 + 8 + 16: tt_four_5(p); break;
        case 7 + 8 + 16: tt_four_7(p); break;
        case 3 + 16 + 16: tt_four_3_by_2(p); break;
        case 5 + 16 + 16: tt_four_5_by_2(p); break;
        default: tt_four_7_by_2(p); break;
    }
}

// `count` outputs, fewer than are computed at once, by way of a buffer.
TT_INNER_LOOP static void tt_add_last_windows(const tt_strip *strip, int32_t width, int32_t stride, int32_t count) {
    int8_t outputs[8], *y = strip->y;
    tt_strip p = *strip;
    p.y = outputs;
    p.step = p.count = 1;
    tt_add_windows(&p, width, stride, width == 3 && count > 4 ? 8 : 4);
    for (int32_t i = 0; i < count; i++, y += strip->step) { *y = outputs[i]; }
}

#endif
