# SPDX-License-Identifier: Apache-2.0
"""Schedules: C equals the oracle, a cosine is a cosine, and every rate is a float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.twins import no_undefined_behaviour, twins
from tinytrain.ops.arithmetic import LearningRate
from tinytrain.ops.schedule import KINDS, ONE, Schedule, falling_cosine

COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1))


def in_c(schedule: Schedule, update: int, samples: int) -> tuple[int, list[int]]:
    numbers = np.array([schedule.warm_up, schedule.total, schedule.period, schedule.decay], np.uint32)
    hyper = np.zeros(6, np.uint32)
    kind = KINDS.index(schedule.kind) if schedule.kind in KINDS else 7
    pointers = twins().pointer(numbers), twins().pointer(hyper)
    status = twins().lib.shim_schedule(kind, schedule.rate, pointers[0], update, samples, pointers[1])
    return status, hyper.tolist()


@given(
    st.sampled_from(KINDS), st.floats(0, width=32, allow_infinity=False), COUNTS, COUNTS,
    st.one_of(st.integers(1, 300), st.just(2**32 - 1)), st.sampled_from([0, 1, 6554, 65000]), COUNTS,
    st.sampled_from([1, 2, 3, 8, 65535]),
)  # fmt: skip
@example("cosine", 3.4028234663852886e38, 2**32 - 1, 0, 1, 0, 2**32 - 1, 65535)
@example("cosine", 1e-45, 0, 10, 1, 0, 9, 3)
@settings(max_examples=400, deadline=None)
def test_c_equals_the_oracle(kind, rate, warm_up, total, period, decay, update, samples):
    schedule = Schedule(kind, rate, warm_up, total, period, decay)
    whole = schedule.at(update)
    share = whole.divided(samples)
    want = [share.mantissa, share.exponent % 2**32, 0, 0, whole.mantissa, whole.exponent % 2**32]
    assert in_c(schedule, update, samples) == (0, want)
    assert whole.mantissa % 128 == 0 and share.mantissa % 128 == 0
    assert float(np.float32(whole.to_float())) == whole.to_float()
    assert LearningRate.from_float(whole.to_float()) == whole


def test_what_makes_no_sense_is_refused_in_c(capfd):
    with no_undefined_behaviour(capfd):
        for schedule in (
            Schedule("line", 0.1), Schedule("cosine", -0.1), Schedule("cosine", math.nan),
            Schedule("step", 0.1, period=0), Schedule("step", 0.1, decay=65536),
        ):  # fmt: skip
            assert in_c(schedule, 3, 1) == (1, [0] * 6)
        for samples in (0, 65536):
            assert in_c(Schedule("constant", 0.1), 3, samples) == (1, [0] * 6)
    for samples in (0, 65536):
        with pytest.raises(ValueError, match="1 to 65535 samples"):
            LearningRate.from_float(0.1).divided(samples)


def test_the_cosine_is_one_to_a_billionth():
    x = np.arange(0, ONE + 1, ONE // 4096)
    got = np.array([falling_cosine(int(value)) for value in x]) / ONE
    assert np.abs(got - (0.5 + 0.5 * np.cos(np.pi * x / ONE))).max() < 6e-9
    assert got[0] == 1.0 and got[-1] == 0.0 and got[2048] == pytest.approx(0.5, abs=1e-8)
    assert np.all(np.diff(got) < 0)


def test_warm_up_climbs_in_a_line_to_the_full_rate_and_the_kinds_go_on_from_there():
    for kind in KINDS:
        schedule = Schedule(kind, 0.5, warm_up=4, total=14, period=3)
        rates = [schedule.at(update).to_float() for update in range(16)]
        np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)
        assert rates[4] == 0.5
        if kind == "constant":
            assert set(rates[4:]) == {0.5}
        elif kind == "step":
            np.testing.assert_allclose(rates[4:], [0.5] * 3 + [0.05] * 3 + [0.005] * 3 + [0.0005] * 3, rtol=1e-3)
        else:
            want = [0.25 + 0.25 * math.cos(math.pi * index / 10) for index in range(10)]
            np.testing.assert_allclose(rates[4:14], want, rtol=1e-6, atol=1e-9)
            assert rates[14:] == [0.0, 0.0]


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(1, 65535))
def test_a_share_is_the_quotient_rounded_to_a_float(rate, samples):
    got = LearningRate.from_float(rate).divided(samples).to_float()
    assert abs(got * samples / rate - 1) <= 2.0**-24
    assert got == float(np.float32(got))
