# SPDX-License-Identifier: Apache-2.0
"""Exponential and logarithm in 16 bits, of which the cross-entropies are made; C's twin is tinytrain/fixed_point.h.

exp(-t) is 2^-n times a polynomial for 2^-f, the Taylor series of degree 6 (error below 2e-5, less than a bit of 2^-15).
"""

from __future__ import annotations

LOG2_E = 94548  # log2(e), 16 bits
LN_2 = 45426  # ln(2), 16 bits
FARTHEST = 24 << 16  # logits this far below the largest have the probability 0
# (-ln 2)^k / k! in 30 bits, from k = 6 down to 0
EXP2_TERMS = (165394, -1431680, 10327387, -59597083, 257941248, -744261118, 1073741824)


def exp_q16(t: int) -> int:
    """exp(-t / 2^16) in 16 bits, t >= 0."""
    if t >= FARTHEST:
        return 0
    u = (t * LOG2_E) >> 16
    fraction = (u & 0xFFFF) << 14
    value = 0
    for term in EXP2_TERMS:
        value = ((value * fraction) >> 30) + term
    return value >> (14 + (u >> 16))


def log_q16(x: int) -> int:
    """ln(x / 2^16) in 16 bits for x >= 2^16: the bits of log2 one by one, by squaring."""
    length = x.bit_length()
    y = (x << (32 - length)) >> 1  # 31 bits, the top one set
    log2 = 0
    for _ in range(16):
        y = (y * y) >> 30
        log2 <<= 1
        if y >= 1 << 31:
            y >>= 1
            log2 |= 1
    return ((((length - 17) << 16) + log2) * LN_2) >> 16
