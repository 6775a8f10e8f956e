// SPDX-License-Identifier: Apache-2.0
// tt_bias_update_s16: eight channels share a walk over the pixels, one LDM a pixel; gradients of two neighbours are one
// word. Then the biases change one by one, with what they have in common prepared.
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/gradients/bias_update.h"

// 65535 mantissas of 16 bits fit 31 bits and a sign.
enum { TOGETHER = 8, AT_ONCE = 4 * TOGETHER, MOST_PIXELS = 65535 };

enum { PIXEL_BYTES = 38, UNROLLED_PIXELS = 4 };  // of its instructions; of the loop
#define PIXEL                           \
    "ldm    %[gy], {r2, r3, r12, lr}\n\t" \
    "add    %[gy], %[step]\n\t"         \
    "sxtah  r4, r4, r2\n\t"             \
    "add    r5, r5, r2, asr #16\n\t"    \
    "sxtah  r6, r6, r3\n\t"             \
    "add    r7, r7, r3, asr #16\n\t"    \
    "sxtah  r8, r8, r12\n\t"            \
    "add    r9, r9, r12, asr #16\n\t"   \
    "sxtah  r10, r10, lr\n\t"           \
    "add    r11, r11, lr, asr #16\n\t"

// The sums of `groups` times TOGETHER channels; gy and all rows start at whole words. 8 sums, 4 words and 2 operands
// are all registers there are. A jump into the loop takes what is no whole round of it.
TT_INNER_LOOP static void sum_together(const int16_t *gy, int32_t step, int32_t pixels, int32_t groups, int32_t *sums) {
    const int32_t bytes = (int32_t)sizeof *gy * step;
    const uint32_t rest = PIXEL_BYTES * ((uint32_t)pixels % UNROLLED_PIXELS);
    for (; groups > 0; groups--, gy += TOGETHER, sums += TOGETHER) {
        const int16_t *from = gy, *const end = gy + step * pixels;
        __asm__ volatile(
            "ldr    r3, %[rest]\n\t"
            "adr.w  r2, 2f\n\t"
            "sub    r2, r2, r3\n\t"
            "movs   r4, #0\n\t"
            "movs   r5, #0\n\t"
            "movs   r6, #0\n\t"
            "movs   r7, #0\n\t"
            "mov    r8, #0\n\t"
            "mov    r9, #0\n\t"
            "mov    r10, #0\n\t"
            "mov    r11, #0\n\t"
            "mov    pc, r2\n"
            "1:\n\t" PIXEL PIXEL PIXEL PIXEL
            "2:\n\t"
            "ldr    r2, %[end]\n\t"
            "cmp    %[gy], r2\n\t"
            "bne    1b\n\t"
            "ldr    r2, %[sums]\n\t"
            "stm    r2, {r4-r11}\n\t"
            : [gy] "+l"(from)
            : [step] "l"(bytes), [rest] "m"(rest), [end] "m"(end), [sums] "m"(sums)
            : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    }
}
#undef PIXEL

TT_INNER_LOOP static int32_t sum_channel(const int16_t *gy, int32_t step, int32_t pixels) {
    int32_t sum = 0;
    for (; pixels > 0; pixels--, gy += step) { sum += *gy; }
    return sum;
}

// What the quick updates of a call share: a sum, raised by so many bits that it still fits 32, times the mantissa of
// the product of the rate and a channel's multiplier, changes a bias by that >> (33 + right - the channel's shift),
// half up.
typedef struct shared_rate {
    uint32_t twice_mantissa;
    int32_t up;
    int32_t right;  // NO_QUICK: there is no quick update
} shared_rate;

// Channels' shifts lie within FARTHEST, and an ASR knows 8 bits of its distance.
enum { FARTHEST = 120, NO_QUICK = INT32_MIN };

static shared_rate rate_of(const tt_update *u, int32_t pixels) {
    shared_rate rate = {2 * u->hyper->mantissa, 0, FARTHEST};
    while (rate.up < 16 && pixels >> (15 - rate.up) == 0) { rate.up++; }
    if (u->hyper->mantissa != 0) {
        rate.right = rate.up - 2 - u->hyper->exponent - tt_exponent_of(u->gy_exponent, u->gy_exponent_offset);
    }
    if (u->mode != TT_UPDATE_BIAS || u->clip != 0 || u->decay_multiplier != 0 || u->total_shift != 0 ||
        rate.right > FARTHEST) {
        rate.right = NO_QUICK;
    }
    return rate;
}

// Channels c..end - 1 until one needs more than that, for a bias beyond 30 bits or a very large step; returns which.
TT_INNER_LOOP static int32_t update_quick(const tt_update *u, const shared_rate *rate, int32_t c, int32_t end,
                                          const int32_t *sums) {
    const int32_t *multipliers = u->multiplier + c, *const sums_end = sums + (end - c);
    const int16_t *shifts = u->shift + c;
    int32_t *biases = (int32_t *)u->parameter + c;
    int16_t *masters = (int16_t *)u->master + c;
    int32_t mantissa, right, sum, bias, t;
    __asm__ volatile(
        "1:\n\t"
        "ldr    %[mantissa], [%[multipliers]], #4\n\t"
        "ldrsh  %[right], [%[shifts]], #2\n\t"
        "umull  %[t], %[mantissa], %[mantissa], %[twice_rate]\n\t"
        "ldr    %[sum], [%[sums]], #4\n\t"
        "lsls   %[bias], %[mantissa], #1\n\t"
        "itt    pl\n\t"  // the product has 61 bits, not 62
        "orrpl  %[mantissa], %[bias], %[t], lsr #31\n\t"
        "subpl  %[right], #1\n\t"
        "ldr    %[bias], [%[biases]]\n\t"
        "subs   %[right], %[all_right], %[right]\n\t"
        "bmi    2f\n\t"
        "eors   %[t], %[bias], %[bias], lsl #1\n\t"
        "bmi    2f\n\t"
        "lsl    %[sum], %[sum], %[up]\n\t"
        "smmul  %[sum], %[sum], %[mantissa]\n\t"
        "ldrsh  %[t], [%[masters]]\n\t"
        "asr    %[sum], %[sum], %[right]\n\t"
        "adds   %[sum], #1\n\t"
        "sub    %[t], %[t], %[sum], asr #1\n\t"
        "strh   %[t], [%[masters]], #2\n\t"  // the low half is what remains
        "add    %[t], #32768\n\t"
        "add    %[bias], %[bias], %[t], asr #16\n\t"
        "str    %[bias], [%[biases]], #4\n\t"
        "cmp    %[sums], %[end]\n\t"
        "bne    1b\n"
        "2:\n\t"
        : [multipliers] "+r"(multipliers), [shifts] "+r"(shifts), [sums] "+r"(sums), [biases] "+r"(biases),
          [masters] "+r"(masters), [mantissa] "=&r"(mantissa), [right] "=&r"(right), [sum] "=&r"(sum),
          [bias] "=&r"(bias), [t] "=&r"(t)
        : [twice_rate] "r"(rate->twice_mantissa), [up] "r"(rate->up), [all_right] "r"(rate->right),
          [end] "r"(sums_end)
        : "cc", "memory");
    return (int32_t)(biases - (int32_t *)u->parameter);
}

// The sums of `count` channels from c on, at most AT_ONCE.
static void sum_channels(const tt_bias_update_args *a, int32_t c, int32_t count, int32_t *sums) {
    const int16_t *gy = (const int16_t *)a->gy + c;
    const int32_t whole = a->channels % 2 == 0 && (uintptr_t)gy % 4 == 0 ? count & -TOGETHER : 0;
    sum_together(gy, a->channels, a->pixels, whole / TOGETHER, sums);
    for (int32_t i = whole; i < count; i++) { sums[i] = sum_channel(gy + i, a->channels, a->pixels); }
}

void tt_bias_update_s16(const void *args) {
    const tt_bias_update_args *a = args;
    const shared_rate rate = rate_of(&a->update, a->pixels);
    tt_clipping clipping = tt_clip_begin(&a->update);
    for (int32_t c = 0; a->pixels > MOST_PIXELS && c < a->channels; c++) {
        tt_update_any(&a->update, &clipping, c, (uint32_t)c, tt_bias_gradient(a, c));
    }
    for (int32_t c = 0; a->pixels <= MOST_PIXELS && c < a->channels;) {
        int32_t sums[AT_ONCE];
        const int32_t start = c, end = c + tt_min(AT_ONCE, a->channels - c);
        sum_channels(a, c, end - c, sums);
        while (c < end) {
            if (rate.right != NO_QUICK) { c = update_quick(&a->update, &rate, c, end, sums + (c - start)); }
            if (c < end) {
                tt_update_any(&a->update, &clipping, c, (uint32_t)c, sums[c - start]);
                c++;
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}
