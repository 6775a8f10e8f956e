# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic: numpy equals Python's unbounded integers, C equals both, and nothing in C is undefined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from tests.twins import no_undefined_behaviour, twins
from tinytrain.ops import arithmetic as am

INT32 = [
    -(2**31), -(2**31) + 1, -(2**30) - 1, -(2**30), -65536, -32769, -257, -2, -1, 0, 1, 2, 3, 255, 32768, 2**30,
    2**31 - 2, 2**31 - 1,
]  # fmt: skip
INT64 = sorted(
    {sign * (2**k) + d for k in (0, 1, 15, 30, 31, 32, 46, 61, 62) for sign in (1, -1) for d in (-1, 0, 1)}
    | {-(2**63), 2**63 - 1}
)
MULTIPLIERS = [0, 2**30, 2**30 + 1, 3 * 2**29, 1518500250, 2**31 - 2, 2**31 - 1]
SHIFTS = [-31, -30, -17, -8, -2, -1, 0, 1, 2, 7, 29, 30]


@pytest.fixture(autouse=True)
def defined(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    with no_undefined_behaviour(capfd):
        yield


def floor_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return floor_half_up(value) if value >= 0 else -floor_half_up(-value)


def wrap32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def cases(rng: np.random.Generator, *domains: list[int], count: int = 4000) -> np.ndarray:
    """Every combination of the extremes, and random values between them: int64[domains, n]."""
    extremes = np.array(list(itertools.product(*domains)), np.int64).T
    between = [rng.integers(min(d), max(d), count, endpoint=True, dtype=np.int64) for d in domains]
    return np.concatenate([extremes, np.array(between)], axis=1)


def test_requantize_with_two_roundings(rng: np.random.Generator) -> None:
    x, m, s = cases(rng, INT32, MULTIPLIERS, SHIFTS)
    m = np.where((m > 0) & (m < 2**30), m + 2**30, m)

    def definition(value: int, multiplier: int, shift: int) -> int:
        high = floor_half_up(Fraction(wrap32(value << max(shift, 0)) * multiplier, 2**31))
        return half_away(Fraction(high, 2 ** max(-shift, 0)))

    want = [definition(int(a), int(b), int(c)) for a, b, c in zip(x, m, s)]
    np.testing.assert_array_equal(am.requantize(x, m, s, "double"), want)
    got = twins().map("shim_requantize", np.int32, *(v.astype(np.int32) for v in (x, m, s)), extra=(0,))
    np.testing.assert_array_equal(got, want)


def test_requantize_with_one_rounding(rng: np.random.Generator) -> None:
    x, m, s = cases(rng, INT32, MULTIPLIERS, SHIFTS)
    want = np.array(
        [floor_half_up(Fraction(int(a) * int(b)) * Fraction(2) ** (int(c) - 31)) for a, b, c in zip(x, m, s)]
    )
    np.testing.assert_array_equal(am.requantize(x, m, s, "single"), want)
    got = twins().map("shim_requantize", np.int32, *(v.astype(np.int32) for v in (x, m, s)), extra=(1,))
    np.testing.assert_array_equal(got, np.clip(want, -(2**31), 2**31 - 1))  # a kernel's result is 32 bits


@pytest.mark.parametrize("clamp", [(-128, 127), (-128, -128), (3, 90), (127, 127)])
def test_the_last_addition_of_a_zero_point_does_not_overflow(clamp: tuple[int, int]) -> None:
    value, zero_point = np.array(list(itertools.product(INT32, [-128, -1, 0, 127])), np.int32).T
    got = twins().map("shim_output", np.int8, value, zero_point, extra=clamp)
    np.testing.assert_array_equal(got, np.clip(value.astype(np.int64) + zero_point, *clamp))


def test_division_by_a_power_of_two_rounds_ties_away_from_zero(rng: np.random.Generator) -> None:
    x, e = cases(rng, INT32, list(range(32)))
    want = [half_away(Fraction(int(a), 2 ** int(b))) for a, b in zip(x, e)]
    np.testing.assert_array_equal(am.rounding_divide_by_power_of_two(x, e), want)
    np.testing.assert_array_equal(twins().map("shim_divide", np.int32, x.astype(np.int32), e.astype(np.int32)), want)


def test_rounding_shift_saturates_on_the_left_and_vanishes_on_the_right(rng: np.random.Generator) -> None:
    x, right = cases(rng, INT64, [-200, -64, -63, -62, -61, -32, -1, 0, 1, 2, 31, 32, 61, 62, 63, 64, 200])

    def definition(value: int, by: int) -> int:
        if by > 62:
            return 0
        if by > 0:
            return floor_half_up(Fraction(value, 2**by))
        return min(max(value << min(-by, 200), -(2**62)), 2**62)

    want = np.array([definition(int(a), int(b)) for a, b in zip(x, right)], np.int64)
    np.testing.assert_array_equal(am.rounding_shift(x, right), want)
    np.testing.assert_array_equal(twins().map("shim_shift", np.int64, x, right.astype(np.int32)), want)
    got = twins().map("shim_mantissa", np.int16, x, right.astype(np.int32), np.zeros_like(x, np.uint32))
    np.testing.assert_array_equal(got, np.clip(want, -32768, 32767))


def test_saturating_sums_and_casts(rng: np.random.Generator) -> None:
    a, b = cases(rng, INT32, INT32)
    np.testing.assert_array_equal(
        twins().map("shim_add", np.int32, a.astype(np.int32), b.astype(np.int32)), np.clip(a + b, -(2**31), 2**31 - 1)
    )
    (x,) = cases(rng, INT64)
    np.testing.assert_array_equal(twins().map("shim_saturate", np.int32, x), np.clip(x, -(2**31), 2**31 - 1))


def test_wrapping_is_that_of_twos_complement() -> None:
    values = [-(2**40) - 3, -(2**31) - 1, -(2**31), 2**31 - 1, 2**31, 2**32 + 5]
    np.testing.assert_array_equal(am.wrap32(np.array(values)), np.array(values).astype(np.int32))


# --- constants ---


@pytest.mark.parametrize(
    "real", [2.0**-31, 1e-9, 0.00037, 0.3333333, 0.5, 0.9999999999, 1.0, 1.5, 1000.1, 2.0**29 - 0.3]
)
def test_a_multiplier_is_within_half_a_bit_of_its_real(real: float) -> None:
    multiplier, shift = am.quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (shift - 32)


def test_multipliers_beyond_the_range_are_zero_or_the_largest() -> None:
    assert am.quantize_multiplier(0.0) == (0, 0)
    assert am.quantize_multiplier(2.0**-33) == (0, 0)
    assert am.quantize_multiplier(1e30) == (2**31 - 1, 30)
    assert am.quantize_multiplier(1 - 2.0**-40) == (2**30, 1)  # rounds up to the next power of two
    multipliers, shifts = am.quantize_multipliers(np.array([0.25, 0.0, 3.0]))
    assert multipliers.tolist() == [2**30, 0, 3 * 2**29] and shifts.tolist() == [-1, 0, 2]


def test_normalized_multipliers_have_no_limit_on_the_shift() -> None:
    reals = np.array([0.0, 2.0**-100, 0.7, 1 - 2.0**-40, 2.0**100])
    multipliers, shifts = am.normalized_multipliers(reals)
    assert multipliers.dtype == np.int32 and shifts.dtype == np.int16
    for real, m, s in zip(reals, multipliers, shifts, strict=True):
        assert m == 0 or m >= 2**30
        assert (
            abs(Fraction(int(m)) * Fraction(2) ** (int(s) - 31) - Fraction(real)) <= Fraction(real) * Fraction(2) ** -31
        )


# --- block floating point ---


def fresh(exponent: int = -24, mantissa: int = 0, power: int = 0) -> np.ndarray:
    return np.array([exponent, mantissa, power], np.int32)


@pytest.mark.parametrize("bits", [16, 8])
def test_exponents_are_the_same_in_c_over_extremes(bits: int, rng: np.random.Generator) -> None:
    magnitudes = [0, 1, 2, 3, 2**15, 2**30, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1, *rng.integers(0, 2**62, 40)]
    for start in (fresh(), fresh(5, 2**30, -40), fresh(0, 2**31 - 1, 200), fresh(0, 2**30, -300)):
        ours, theirs = start.copy(), start.copy()
        pointer = twins().pointer(theirs)
        for magnitude in map(int, magnitudes):
            for exponent in (-300, -96, -31, 0, 17, 96):
                assert am.exponent_begin(ours, bits) == twins().lib.shim_begin(pointer, bits)
                assert int(am.rounding_key(ours)) == twins().lib.shim_rounding_key(pointer)
                am.exponent_end(ours, magnitude, exponent)
                twins().lib.shim_end(pointer, magnitude, exponent)
                np.testing.assert_array_equal(ours, theirs)


def test_the_largest_magnitude_of_c_is_that_of_any_int64() -> None:
    state = fresh()
    twins().lib.shim_end(twins().pointer(state), 2**63, 0)  # |INT64_MIN|
    assert state.tolist() == [-24, 2**30, 33]


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("magnitude", [1, 3, 1000, 2**31 - 1, 2**40 + 12345, 2**62])
def test_a_repeated_peak_keeps_one_bit_of_headroom(magnitude: int, bits: int) -> None:
    """The decayed peak is below half of the range of a mantissa and above a fifth of it."""
    state = fresh()
    for _ in range(3):
        am.exponent_begin(state, bits)
        am.exponent_end(state, magnitude, -7)
    exponent = am.exponent_begin(state, bits)
    mantissa = magnitude * 2.0**-7 / 2.0**exponent
    assert 2 ** (bits - 3) * 0.99 < mantissa < 2 ** (bits - 2) / 0.9


def test_a_peak_is_forgotten_by_a_tenth_per_step() -> None:
    state = fresh()
    am.exponent_end(state, 2**40, 0)
    for step in range(1, 60):
        am.exponent_begin(state)
        peak = float(state[1]) * 2.0 ** int(state[2])
        assert math.isclose(peak, 2.0**40 * 0.9**step, rel_tol=1e-3)


@pytest.mark.parametrize("dtype", ["int16", "int8"])
def test_a_gradient_of_zeros_leaves_the_exponent(dtype: str) -> None:
    state = fresh(-9)
    assert am.to_mantissas(np.zeros(4, np.int64), 3, state, dtype).tolist() == [0, 0, 0, 0]
    assert state.tolist() == [-9, 0, 0]


def test_exponents_stay_within_their_limits() -> None:
    for power, limit in ((500, am.EXPONENT_MAX), (-500, am.EXPONENT_MIN)):
        state = fresh()
        am.exponent_end(state, 2**30, power)
        assert am.exponent_begin(state) == limit


def test_mantissas_are_the_values_within_half_a_unit(rng: np.random.Generator) -> None:
    values = rng.integers(-(2**40), 2**40, 500)
    state = fresh()
    am.to_mantissas(values, -33, state)  # learns the magnitude
    mantissas = am.to_mantissas(values, -33, state)
    unit = 2.0 ** int(state[0])
    assert np.abs(mantissas * unit - values * 2.0**-33).max() <= unit / 2
    assert np.abs(mantissas).max() > 2**12


def test_mantissas_saturate_instead_of_wrapping() -> None:
    values = np.array([2**40, -(2**40), 5])
    assert am.to_mantissas(values, -20, fresh(-20)).tolist() == [32767, -32768, 5]
    assert am.to_mantissas(values, -20, fresh(-20), "int8").tolist() == [127, -128, 5]


def test_eight_bits_are_rounded_down_or_up_as_in_c(rng: np.random.Generator) -> None:
    extremes = [x for x in INT64 if abs(x) <= 2**61]
    x, right = cases(rng, extremes, [-200, -62, -8, -1, 0, 1, 2, 31, 32, 33, 61, 62, 63, 100, 125, 200], count=500)
    words = rng.integers(0, 2**32, x.size).astype(np.uint32)
    got = am.stochastic_shift(x, right, words)
    np.testing.assert_array_equal(twins().map("shim_stochastic", np.int64, x, right.astype(np.int32), words), got)
    for value, by, rounded in zip(x.tolist(), right.tolist(), got.tolist(), strict=True):
        exact = Fraction(value) * Fraction(2) ** -by
        assert abs(rounded - exact) < 1 or by <= 0, (value, by)
    whole = right <= 0
    np.testing.assert_array_equal(got[whole], am.rounding_shift(x[whole], right[whole]))
    index = np.arange(x.size).astype(np.uint32)
    noise = am.words_of_key(7, x.size)
    got = twins(8).map("shim_mantissa", np.int16, x, right.astype(np.int32), index)
    np.testing.assert_array_equal(got, np.clip(am.stochastic_shift(x, right, noise), -128, 127))


@pytest.mark.parametrize("bits", [16, 8])
def test_values_of_32_bits_become_the_same_mantissas(bits: int, rng: np.random.Generator) -> None:
    x, right = cases(rng, INT32, [-40, -1, 0, 1, 2, 7, 15, 29, 30, 31, 32, 33, 61, 62, 63, 200])
    index = rng.integers(0, 2**31, x.size).astype(np.uint32)
    want = twins(bits).map("shim_mantissa", np.int16, x, right.astype(np.int32), index)
    got = twins(bits).map("shim_mantissa32", np.int16, x.astype(np.int32), right.astype(np.int32), index)
    np.testing.assert_array_equal(got, want)


def test_eight_bits_are_right_on_average_over_steps(rng: np.random.Generator) -> None:
    """Values of a fraction of a unit, too; the peak changes from step to step as it does in training."""
    values, steps = rng.integers(-(2**20), 2**20, 64), 4000
    values[:32] >>= 9
    sums, variance, state = np.zeros(64), np.zeros(64), fresh()
    for step in range(steps):
        values[-1] = 2**20 + 97 * step  # the peak
        unit = 2.0 ** (am.exponent_begin(state.copy(), 8) + 33)
        got = am.to_mantissas(values, -33, state, "int8") * unit
        if step:  # the first step saturates
            sums += got - values
            fraction = values / unit % 1
            variance += unit**2 * fraction * (1 - fraction)
    assert np.all(np.abs(sums) <= 5 * np.sqrt(variance) + 1e-6)
    assert np.sqrt(variance).max() / steps < 0.02 * unit, "the bound is a small part of a unit"


def test_two_steps_share_no_random_words() -> None:
    state = fresh()
    am.exponent_end(state, 12345, 0)
    keys = set()
    for _ in range(500):
        am.exponent_begin(state, 8)
        keys.add(int(am.rounding_key(state)))
    assert len(keys) == 500


# --- updates ---


def plain_hash(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_random_words_are_frozen() -> None:
    """The stream is part of the contract: these never change."""
    assert am.random_words(1, 0, 0, 4).tolist() == [604019821, 2972792678, 3466892386, 2286600280]
    key = plain_hash((plain_hash(9 ^ 5 * 0x9E3779B9 % 2**32) + 77) % 2**32)
    assert am.random_words(9, 5, 77, 20).tolist() == [plain_hash((i * 0x9E3779B9 + key) % 2**32) for i in range(20)]
    assert len(set(am.random_words(7, 3, 2, 1000).tolist())) > 990


def test_random_words_are_the_same_in_c(rng: np.random.Generator) -> None:
    for seed, stream, step in ((0, 0, 0), (1, 0, 0), (2**32 - 1, 77, 2**32 - 1), (12345, 2**31, 9), (5, 2**32 - 1, 3)):
        want = [twins().lib.shim_word(seed, stream, step, index) for index in range(50)]
        assert am.random_words(seed, stream, step, 50).tolist() == want


def test_random_words_differ_by_seed_stream_and_step() -> None:
    first = am.random_words(1, 2, 3, 64)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert np.mean(first == am.random_words(*other, 64)) < 0.1
    bits = np.unpackbits(am.random_words(9, 1, 1, 20000).view(np.uint8)).reshape(-1, 32).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.02  # every bit is set half of the time


RATES = [
    0.0, -0.0, 1e-45, 2.5e-45, 1.1754942e-38, 1.1754944e-38, 1e-10, 2.0**-20, 0.1, 0.99999994, 1.0, 1.5, 65504.0,
    3.4028235e38,
]  # fmt: skip


@pytest.mark.parametrize("rate", RATES)
def test_a_learning_rate_comes_apart_exactly(rate: float) -> None:
    """Also denormals, and the same in C."""
    parts = am.LearningRate.from_float(rate)
    assert Fraction(parts.mantissa) * Fraction(2) ** (parts.exponent - 31) == Fraction(float(np.float32(rate)))
    assert parts.mantissa == 0 or 2**30 <= parts.mantissa < 2**31
    hyper = np.full(6, 7, np.uint32)
    assert twins().lib.shim_learning_rate(rate, twins().pointer(hyper)) == 0
    pair = [parts.mantissa, parts.exponent % 2**32]
    assert hyper.tolist() == [*pair, 7, 7, *pair]


@pytest.mark.parametrize("rate", [-1e-45, -0.5, -math.inf, math.inf, math.nan, -math.nan])
def test_a_learning_rate_that_is_no_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="learning rate"):
        am.LearningRate.from_float(rate)
    hyper = np.full(6, 7, np.uint32)
    assert twins().lib.shim_learning_rate(rate, twins().pointer(hyper)) == 1  # TT_BAD_ARGUMENT
    assert hyper.tolist() == [7] * 6


def test_combined_multipliers_keep_thirty_bits_and_are_the_same_in_c(rng: np.random.Generator) -> None:
    rates = [
        am.LearningRate(0, 0),
        am.LearningRate(2**30, -125),
        am.LearningRate(2**31 - 1, 128),
        am.LearningRate.from_float(0.01),
    ]
    for lr, m, s in itertools.product(
        rates, [2**30, 2**30 + 1, 2**31 - 1, int(rng.integers(2**30, 2**31))], [-120, -31, 0, 5, 120]
    ):
        mantissa, exponent = am.combine_multipliers(lr, m, s)
        exact = Fraction(lr.mantissa * m) * Fraction(2) ** (lr.exponent + s - 62)
        got = Fraction(mantissa) * Fraction(2) ** (exponent - 31)
        assert 0 <= exact - got <= exact * Fraction(1, 2**30)
        assert mantissa == 0 or 2**30 <= mantissa < 2**31
        hyper, rate = np.array([lr.mantissa, lr.exponent % 2**32, 0, 0, 0, 0], np.uint32), np.zeros(2, np.int32)
        twins().lib.shim_rate(twins().pointer(hyper), m, s, 11, twins().pointer(rate))
        assert rate.tolist() == [mantissa, exponent + 11 if mantissa else 0]


def delta_cases() -> Iterator[tuple[int, int, int, int]]:
    """(total, total_shift, mantissa, exponent)"""
    for total_shift, largest in ((0, 2**31 - 1), (9, 2**40 - 1), (20, 2**51 - 1)):
        totals = {sign * value for sign in (1, -1) for value in (0, 1, 3, 255, 2**20 + 7, 2**30, largest)}
        for total, mantissa in itertools.product(sorted(totals), (0, 2**30, 3 * 2**29 + 1, 2**31 - 1)):
            for exponent in (-200, -70, -40, -33, -31, -30, -29, -10, -1, 0, 1, 10, 30, 31, 32, 60, 200):
                yield total, total_shift, mantissa, exponent


def test_a_delta_is_its_exact_product_rounded_and_the_same_in_c() -> None:
    rate = np.zeros(2, np.int32)
    for total, total_shift, mantissa, exponent in delta_cases():
        reduced = floor_half_up(Fraction(total, 2**total_shift))
        right = 31 - exponent - total_shift
        exact = Fraction(reduced * mantissa) / Fraction(2) ** right
        want = 0 if right > 62 else min(max(floor_half_up(exact), -(2**62)), 2**62)
        got = int(am.scaled_delta(np.int64(total), total_shift, np.int64(mantissa), np.int64(exponent)))
        assert got == want, (total, total_shift, mantissa, exponent)
        rate[:] = mantissa, exponent
        for mode in (0, 2, 3, 5):
            assert twins().lib.shim_delta(mode, total_shift, twins().pointer(rate), 0, 0, total) == want


def test_a_stochastic_delta_rounds_down_or_up_and_is_the_same_in_c() -> None:
    rate = np.zeros(2, np.int32)
    key = 0x12345678
    index = np.arange(3)
    noise = am._hash_word(
        (index.astype(np.uint64) * np.uint64(0x9E3779B9) + np.uint64(key)) & np.uint64(0xFFFFFFFF)
    ).astype(np.uint32)
    for total, total_shift, mantissa, exponent in delta_cases():
        reduced = floor_half_up(Fraction(total, 2**total_shift))
        right = 31 - exponent - total_shift
        exact = Fraction(reduced * mantissa) / Fraction(2) ** right
        got = am.scaled_delta(np.full(3, total, np.int64), total_shift, np.int64(mantissa), np.int64(exponent), noise)
        rate[:] = mantissa, exponent
        for mode in (1, 4):
            c = [twins().lib.shim_delta(mode, total_shift, twins().pointer(rate), key, int(i), total) for i in index]
            assert got.tolist() == c, (total, total_shift, mantissa, exponent)
        if right > 0:
            assert all(math.floor(exact) <= value <= math.ceil(exact) for value in got.tolist())


def test_stochastic_rounding_is_right_on_average() -> None:
    for right, total in ((5, 45), (31, 3 * 2**29), (20, -(2**18)), (30, 2**27), (2, -7)):
        noise = am.random_words(3, 1, right, 40000)
        # the mantissa is 2^30, so the product is shifted by 30 bits more
        got = am.scaled_delta(np.full(noise.size, total, np.int64), 0, np.int64(2**30), np.int64(1 - right), noise)
        exact = total / 2.0**right
        deviation = math.sqrt(abs(exact % 1) * (1 - exact % 1) / noise.size)
        assert abs(got.mean() - exact) < 5 * deviation + 1e-9, (right, total)


def test_stochastic_rounding_loses_no_small_update() -> None:
    """A change of 2^-12 of the last bit, which takes a shift of 72 bits, still happens that often."""
    noise = am.random_words(5, 2, 0, 1 << 20)
    for total in (2**30, -(2**30)):
        got = am.scaled_delta(np.full(noise.size, total, np.int64), 0, np.int64(2**30), np.int64(31 - 72), noise)
        assert abs(np.mean(got) * 2**12 / math.copysign(1, total) - 1) < 0.25, total


def test_stochastic_rounding_leaves_whole_numbers_alone() -> None:
    noise = np.array([0, 2**31, 2**32 - 1], np.uint32)
    got = am.scaled_delta(np.full(3, -6, np.int64), 0, np.int64(2**30), np.int64(1), noise)
    assert got.tolist() == [-6, -6, -6]
