// SPDX-License-Identifier: Apache-2.0
// Exponential and logarithm in 16 bits. The definition is tinytrain/ops/fixed_point.py: same bits, tested.
#ifndef TINYTRAIN_FIXED_POINT_H
#define TINYTRAIN_FIXED_POINT_H

#include "tinytrain/arithmetic.h"

enum { TT_LOG2_E = 94548, TT_LN_2 = 45426, TT_FARTHEST = 24 << 16 };

// exp(-t) in 16 bits, t >= 0 in 16 bits: 2^-n times the Taylor series of 2^-f.
static inline uint32_t tt_exp_q16(int64_t t) {
    static const int32_t terms[7] = {165394, -1431680, 10327387, -59597083, 257941248, -744261118, 1073741824};
    if (t >= TT_FARTHEST) { return 0; }
    const int32_t u = (int32_t)((t * TT_LOG2_E) >> 16);
    const int64_t fraction = (int64_t)(u & 0xFFFF) << 14;
    int32_t value = 0;
    for (int32_t k = 0; k < 7; k++) { value = (int32_t)((value * fraction) >> 30) + terms[k]; }
    const int32_t right = 14 + (u >> 16);
    return right > 31 ? 0U : (uint32_t)value >> right;
}

// ln(x / 2^16) in 16 bits, x >= 2^16: the bits of log2 one by one, by squaring.
static inline int32_t tt_log_q16(uint32_t x) {
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
    return (int32_t)(((int64_t)((length - 17) * 65536 + log2) * TT_LN_2) >> 16);
}

#endif
