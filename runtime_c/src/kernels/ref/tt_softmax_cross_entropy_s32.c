// SPDX-License-Identifier: Apache-2.0
#include "tinytrain/kernels/softmax_cross_entropy.h"
#include "tinytrain/arithmetic.h"

static const int32_t exp2_terms[7] = {165394, -1431680, 10327387, -59597083, 257941248, -744261118, 1073741824};

enum { LOG2_E = 94548, LN_2 = 45426, FARTHEST = 24 << 16 };

// exp(-t) in 16 bits, t >= 0 in 16 bits: 2^-n times the Taylor series of 2^-f.
static uint32_t exp_q16(int64_t t) {
    if (t >= FARTHEST) { return 0; }
    const int32_t u = (int32_t)((t * LOG2_E) >> 16);
    const int64_t fraction = (int64_t)(u & 0xFFFF) << 14;
    int32_t value = 0;
    for (int32_t k = 0; k < 7; k++) { value = (int32_t)((value * fraction) >> 30) + exp2_terms[k]; }
    const int32_t right = 14 + (u >> 16);
    return right > 31 ? 0U : (uint32_t)value >> right;
}

// ln(x / 2^16) in 16 bits, x >= 2^16: the bits of log2 one by one, by squaring.
static int32_t log_q16(uint32_t x) {
    const int32_t length = tt_bit_length(x);
    uint64_t y = ((uint64_t)x << (32 - length)) >> 1;
    int32_t log2 = 0;
    for (int32_t bit = 0; bit < 16; bit++) {
        y = (y * y) >> 30;
        log2 *= 2;
        if (y >= (uint64_t)1 << 31) {
            y >>= 1;
            log2++;
        }
    }
    return (int32_t)(((int64_t)((length - 17) * 65536 + log2) * LN_2) >> 16);
}

void tt_softmax_cross_entropy_s32(const void *args) {
    const tt_softmax_cross_entropy_s32_args *a = args;
    const int32_t label = a->label[0];
    int32_t best = 0;
    for (int32_t n = 1; n < a->classes; n++) {
        if (a->logits[n] > a->logits[best]) { best = n; }
    }
    const int64_t top = a->logits[best];
    uint32_t total = 0;
    for (int32_t n = 0; n < a->classes; n++) { total += exp_q16(top - a->logits[n]); }
    for (int32_t n = 0; n < a->classes; n++) {
        const uint32_t power = exp_q16(top - a->logits[n]);
        const int32_t probability = (int32_t)(((power << 15) + total / 2) / total);
        a->gradient[n] = (int16_t)tt_min(probability - (n == label ? 32768 : 0), 32767);
    }
    a->result[0] = tt_saturate32(top - a->logits[label] + log_q16(total));
    a->result[1] = best;
}
