// SPDX-License-Identifier: Apache-2.0
// Images as planes of int16, one for each of four channels: two neighbours of a row lie in a word, and one instruction
// multiplies both. On cores with the DSP instructions.
#ifndef TINYTRAIN_DSP_PLANES_H
#define TINYTRAIN_DSP_PLANES_H

#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

// Rows are made of quads: four neighbours of the first channel in two words, then those of the next one.
enum { TT_PLANES = 4, TT_QUAD_WORDS = 8 };

// What a row of an image becomes: quads of zeros, one of zeros and the first pixels, quads of pixels, one of the last
// pixels and zeros, quads of zeros.
typedef struct tt_row_plan {
    int32_t before, lead, whole, trail, after;  // lead: zeros before pixels in a quad; trail: pixels before zeros
} tt_row_plan;

// Rows of so many quads, with so many padded cells before the pixels, of which there is room for three or more.
static inline tt_row_plan tt_row_plan_of(int32_t padding, int32_t quads, int32_t pixels) {
    const int32_t lead = padding & 3, left = lead == 0 ? pixels : pixels - 4 + lead;
    tt_row_plan plan = {padding >> 2, lead, left >> 2, left & 3, quads};
    plan.after -= plan.before + (plan.lead != 0) + plan.whole + (plan.trail != 0);
    return plan;
}

static inline uint32_t *tt_clear_quads(uint32_t *quad, int32_t count) {
    for (; count > 0; count--, quad += TT_QUAD_WORDS) {
        for (int32_t pair = 0; pair < TT_QUAD_WORDS / 2; pair++) { tt_store_two(quad, pair, 0, 0); }
    }
    return quad;
}

// The bytes of four neighbours become a quad.
TT_ALWAYS_INLINE static inline uint32_t *tt_pack_quad(uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                                                      uint32_t minus_zero, uint32_t *to) {
    uint32_t e, f;
    __asm__ volatile("pkhbt %[e], %[a], %[b], lsl #16\n\t"
                     "pkhbt %[f], %[c], %[d], lsl #16\n\t"
                     "pkhtb %[b], %[b], %[a], asr #16\n\t"
                     "pkhtb %[d], %[d], %[c], asr #16\n\t"
                     "sxtab16 %[a], %[minus_zero], %[e]\n\t"
                     "sxtab16 %[c], %[minus_zero], %[f]\n\t"
                     "sxtab16 %[e], %[minus_zero], %[e], ror #8\n\t"
                     "sxtab16 %[f], %[minus_zero], %[f], ror #8\n\t"
                     "strd %[a], %[c], [%[to]], #32\n\t"
                     "sxtab16 %[a], %[minus_zero], %[b]\n\t"
                     "sxtab16 %[c], %[minus_zero], %[d]\n\t"
                     "sxtab16 %[b], %[minus_zero], %[b], ror #8\n\t"
                     "sxtab16 %[d], %[minus_zero], %[d], ror #8\n\t"
                     "strd %[e], %[f], [%[to], #-24]\n\t"
                     "strd %[a], %[c], [%[to], #-16]\n\t"
                     "strd %[b], %[d], [%[to], #-8]"
                     : [a] "+&r"(a), [b] "+&r"(b), [c] "+&r"(c), [d] "+&r"(d), [e] "=&r"(e), [f] "=&r"(f), [to] "+r"(to)
                     : [minus_zero] "r"(minus_zero)
                     : "memory");
    return to;
}

// The bytes of four neighbours, `channels` bytes apart; on to the next. gcc would keep every distance in a register.
TT_ALWAYS_INLINE static inline const int8_t *tt_load_quad(const int8_t *at, int32_t channels, int32_t three,
                                                          uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    __asm__ volatile("ldr %[a], [%[at]]\n\t"
                     "ldr %[b], [%[at], %[channels]]\n\t"
                     "ldr %[c], [%[at], %[channels], lsl #1]\n\t"
                     "ldr %[d], [%[at], %[three]]\n\t"
                     "add %[at], %[at], %[channels], lsl #2"
                     : [at] "+&r"(at), [a] "=&r"(*a), [b] "=&r"(*b), [c] "=&r"(*c), [d] "=&r"(*d)
                     : [channels] "r"(channels), [three] "r"(three)
                     : "memory");
    return at;
}

// Rows of an image, `channels` bytes from one pixel to the next, x_row from one row to the next. zero: four bytes of
// the zero point; minus_zero: a pair of its negative.
TT_INNER_LOOP static void tt_pack_rows(const tt_row_plan *plan, const int8_t *x, int32_t x_row, int32_t channels,
                                       int32_t rows, uint32_t zero, uint32_t minus_zero, uint32_t *to) {
    const int32_t lead = plan->lead, trail = plan->trail, three = 3 * channels;
    for (; rows > 0; rows--, x += x_row) {
        const int8_t *at = x;
        to = tt_clear_quads(to, plan->before);
        if (lead != 0) {
            uint32_t b = zero, c = zero;
            if (lead == 1) {
                b = tt_load_bytes(at);
                at += channels;
            }
            if (lead <= 2) {
                c = tt_load_bytes(at);
                at += channels;
            }
            to = tt_pack_quad(zero, b, c, tt_load_bytes(at), minus_zero, to);
            at += channels;
        }
        for (const uint32_t *end = to + TT_QUAD_WORDS * plan->whole; to != end;) {
            uint32_t a, b, c, d;
            at = tt_load_quad(at, channels, three, &a, &b, &c, &d);
            to = tt_pack_quad(a, b, c, d, minus_zero, to);
        }
        if (trail != 0) {
            const uint32_t b = trail > 1 ? tt_load_bytes(at + channels) : zero;
            const uint32_t c = trail > 2 ? tt_load_bytes(at + 2 * channels) : zero;
            to = tt_pack_quad(tt_load_bytes(at), b, c, zero, minus_zero, to);
        }
        to = tt_clear_quads(to, plan->after);
    }
}

#endif
