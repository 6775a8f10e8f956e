// SPDX-License-Identifier: Apache-2.0
// tt_add_s8, Helium: four elements at a time. One of the two tensors has the larger scale, and exactly 1/2 as its
// factor; the other's rounds in two steps, as the sum does. VQRDMLAH is the first rounding, onto -1 where the value is
// negative, so that VRSHL rounds ties away from zero. Where such a value's first rounding is 0, -1 becomes 0 again.
#include <arm_mve.h>

#include "tinytrain/arithmetic.h"
#include "tinytrain/kernels/add.h"

enum { RAISED = 1 << 20, EXACT = 1 << 30 };

// The tensor that is scaled, and the other one.
typedef struct work {
    const int8_t *scaled, *exact;
    int32_t scaled_zero, exact_zero;  // minus zero points, raised by 20 and by 19 bits
    int32_t multiplier, shift, y_multiplier, y_shift;
} work;

static int8_t sum_of(const tt_add_s8_args *k, int32_t a, int32_t b) {
    const int32_t first = tt_requantize_double((a - k->a_zero_point) * RAISED, k->a_multiplier, k->a_shift);
    const int32_t second = tt_requantize_double((b - k->b_zero_point) * RAISED, k->b_multiplier, k->b_shift);
    const int32_t sum = tt_requantize_double(first + second, k->y_multiplier, k->y_shift);
    return (int8_t)tt_clamp(sum + k->y_zero_point, k->clamp_low, k->clamp_high);
}

// Loads one vector; the step is part of the instruction.
#define FOUR "], #4\n"
#define SAME "]\n"

// Tail-predicated. VPR changes, which no clobber can say: so each of these loops is a function of its own.
#define ADD(scaled_step, exact_step)                                                                                   \
    __asm__ volatile(                                                                                                  \
        "wlstp.32 lr, %[count], 2f\n"                                                                                  \
        "1:\n"                                                                                                         \
        "vldrb.s32 %q[value], [%[scaled]" scaled_step                                                                  \
        "vldrb.s32 %q[other], [%[exact]" exact_step                                                                    \
        "vmlas.s32 %q[value], %q[raised], %[scaled_zero]\n"                                                            \
        "vmlas.s32 %q[other], %q[half_raised], %[exact_zero]\n"                                                        \
        "vshr.s32 %q[sum], %q[value], #31\n"                                                                           \
        "vqrdmlah.s32 %q[sum], %q[value], %[multiplier]\n"                                                             \
        "vrshl.s32 %q[sum], %[shift]\n"                                                                                \
        "vadd.i32 %q[sum], %q[sum], %q[other]\n"                                                                       \
        "vshr.s32 %q[value], %q[sum], #31\n"                                                                           \
        "vqrdmlah.s32 %q[value], %q[sum], %[y_multiplier]\n"                                                           \
        "vrshl.s32 %q[value], %[y_shift]\n"                                                                            \
        "vadd.i32 %q[value], %q[value], %[zero_point]\n"                                                               \
        "vmax.s32 %q[value], %q[value], %q[low]\n"                                                                     \
        "vmin.s32 %q[value], %q[value], %q[high]\n"                                                                    \
        "vstrb.32 %q[value], [%[y]], #4\n"                                                                             \
        "letp lr, 1b\n"                                                                                                \
        "2:\n"                                                                                                         \
        : [scaled] "+l"(scaled), [exact] "+l"(exact), [y] "+l"(y), [value] "=&w"(value), [other] "=&w"(other),         \
          [sum] "=&w"(sum)                                                                                             \
        : [count] "r"(k->size), [raised] "w"(raised), [half_raised] "w"(half_raised), [low] "w"(low),                  \
          [high] "w"(high), [scaled_zero] "r"(w->scaled_zero), [exact_zero] "r"(w->exact_zero),                        \
          [multiplier] "r"(w->multiplier), [shift] "r"(w->shift), [y_multiplier] "r"(w->y_multiplier),                 \
          [y_shift] "r"(w->y_shift), [zero_point] "r"(k->y_zero_point)                                                 \
        : "lr", "memory")

#define ADD_FUNCTION(name, scaled_step, exact_step)                                                                    \
    TT_INNER_LOOP static void name(const tt_add_s8_args *k, const work *w) {                                           \
        const int32x4_t raised = vdupq_n_s32(RAISED), half_raised = vdupq_n_s32(RAISED / 2);                           \
        const int32x4_t low = vdupq_n_s32(k->clamp_low), high = vdupq_n_s32(k->clamp_high);                            \
        const int8_t *scaled = w->scaled, *exact = w->exact;                                                           \
        int8_t *y = k->y;                                                                                              \
        int32x4_t value, other, sum;                                                                                   \
        ADD(scaled_step, exact_step);                                                                                  \
    }
ADD_FUNCTION(add_tensors, FOUR, FOUR)
ADD_FUNCTION(add_to_same_scaled, SAME, FOUR)
ADD_FUNCTION(add_to_same_exact, FOUR, SAME)

void tt_add_s8(const void *args) {
    const tt_add_s8_args *k = args;
    const int b_exact = k->b_multiplier == EXACT && k->b_shift == 0;
    const int a_exact = k->a_multiplier == EXACT && k->a_shift == 0;
    const int32_t multiplier = b_exact ? k->a_multiplier : k->b_multiplier, shift = b_exact ? k->a_shift : k->b_shift;
    const int both = a_exact && b_exact;  // a factor of 1/2 that is scaled, too, is a multiplier of all ones
    if ((!a_exact && !b_exact) || (shift >= 0 && !both) || k->y_shift >= 0) {
        for (int32_t i = 0; i < k->size; i++) { k->y[i] = sum_of(k, k->a[i], k->b[i * k->b_step]); }
        return;
    }
    const int32_t same = (k->b[0] & 0xFF) * 0x01010101;
    const int8_t *b = k->b_step ? k->b : (const int8_t *)&same;
    const work w = {b_exact ? k->a : b,
                    b_exact ? b : k->a,
                    -(b_exact ? k->a_zero_point : k->b_zero_point) * RAISED,
                    -(b_exact ? k->b_zero_point : k->a_zero_point) * (RAISED / 2),
                    both ? INT32_MAX : multiplier,
                    both ? -1 : shift,
                    k->y_multiplier,
                    k->y_shift};
    if (k->b_step) {
        add_tensors(k, &w);
    } else if (b_exact) {
        add_to_same_exact(k, &w);
    } else {
        add_to_same_scaled(k, &w);
    }
}
