# SPDX-License-Identifier: Apache-2.0
"""Learning rate schedules in integers, so that host and board agree on every rate. C's twin is src/schedule.c."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinytrain.ops.arithmetic import LearningRate, rounded_rate

KINDS = ("constant", "cosine", "step")  # the numbers of enum tt_schedule_kind
ONE = 1 << 30
SMALLEST_EXPONENT = -100  # a rate below 2^-101 is 0, so that no rate is a subnormal float
# sin(pi x / 2)^2 as a series in x^2, 2^30 = 1.0: pi^(2k) / (2 (2k)!)
SINE_SQUARED = tuple(math.floor(math.pi ** (2 * k) / (2 * math.factorial(2 * k)) * ONE + 0.5) for k in range(1, 8))


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each parameter update.

    kind:    "constant"; "cosine": half a cosine down to 0 at update `total`; "step": times `decay` after each `period`
    rate:    the full rate
    warm_up: updates of a straight climb before that
    total:   updates in all, those of the climb included
    decay:   in 2^-16, 0 to 65535
    """

    kind: str
    rate: float
    warm_up: int = 0
    total: int = 1
    period: int = 1
    decay: int = 6554

    def at(self, update: int) -> LearningRate:
        """Of parameter update `update`, counted from 0: 24 significant bits."""
        peak = LearningRate.from_float(self.rate)
        scaled = rounded_rate(peak.mantissa * self.share(update), peak.exponent - 30)
        return LearningRate(0, 0) if scaled.exponent < SMALLEST_EXPONENT else scaled

    def share(self, update: int) -> int:
        """Of the full rate, 2^30 = 1.0."""
        if update < self.warm_up:
            return ((update + 1) << 30) // (self.warm_up + 1)
        done = update - self.warm_up
        if self.kind == "cosine":
            left = self.total - self.warm_up
            return 0 if done >= left else falling_cosine((done << 30) // left)
        share = ONE
        for _ in range(done // self.period if self.kind == "step" else 0):
            share = (share * self.decay) >> 16
            if share == 0:
                break
        return share


def falling_cosine(x: int) -> int:
    """(1 + cos(pi x)) / 2 for x in [0, 1], 2^30 = 1.0, from the series around the nearer end."""
    near = x if x <= ONE // 2 else ONE - x
    square = (near * near) >> 30
    value = 0
    for coefficient in reversed(SINE_SQUARED):
        value = coefficient - ((value * square) >> 30)
    value = (value * square) >> 30
    return ONE - value if near == x else value
