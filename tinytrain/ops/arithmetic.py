# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic every operator is defined by (docs/arithmetic.md); C's twin is tinytrain/arithmetic.h.

Everything works on int64 arrays and is exact: no float takes part in a step, only in preparing constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

INT16_MIN, INT16_MAX = -(1 << 15), (1 << 15) - 1
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
EXPONENT_MIN, EXPONENT_MAX = -96, 96
PEAK_DECAY = 58982  # 0.9 in 16 bits: how fast a gradient's peak is forgotten (per step)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """real >= 0 -> (multiplier, shift) with real ~ multiplier * 2 ** (shift - 31), multiplier 0 or in [2^30, 2^31).

    The same rounding as TFLite's QuantizeMultiplier: half away from zero; below 2^-32 the result is (0, 0).
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return INT32_MAX, 30
    return multiplier, shift


def quantize_multipliers(reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`quantize_multiplier` of each element -> (int32 multipliers, int8 shifts)."""
    pairs = [quantize_multiplier(float(real)) for real in np.atleast_1d(reals)]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)


def normalized_multipliers(reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `quantize_multipliers`, without TFLite's limits on the shift -> (int32 in [2^30, 2^31) or 0, int16 shift)."""
    multipliers, shifts = [], []
    for real in np.atleast_1d(reals):
        fraction, shift = math.frexp(float(real))
        multiplier = math.floor(fraction * (1 << 31) + 0.5)
        if multiplier == 1 << 31:
            multiplier, shift = 1 << 30, shift + 1
        multipliers.append(multiplier)
        shifts.append(shift if multiplier else 0)
    return np.array(multipliers, np.int32), np.array(shifts, np.int16)


def requantize_double(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """round(x * multiplier * 2^(shift-31)) with two roundings: TFLite's SaturatingRoundingDoublingHighMul, then a
    rounding right shift. x: int32 range; multiplier, shift broadcast against it."""
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    product = wrap32(np.asarray(x, np.int64) << np.maximum(shift, 0)) * multiplier
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return rounding_divide_by_power_of_two(high, np.maximum(-shift, 0))


def requantize_single(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """floor(x * multiplier * 2^(shift-31) + 1/2): one rounding, half up. x: int64, |x| < 2^31 (2^32 for shift < 0)."""
    total = 31 - np.asarray(shift, np.int64)
    return (np.asarray(x, np.int64) * np.asarray(multiplier, np.int64) + (np.int64(1) << (total - 1))) >> total


def requantize(x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray, rounding: str) -> np.ndarray:
    """`rounding`: "double" (convolutions, mean) or "single" (fully connected), as LiteRT's reference kernels."""
    return {"double": requantize_double, "single": requantize_single}[rounding](x, multiplier, shift)


def rounding_divide_by_power_of_two(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """x / 2^exponent, rounded to nearest, ties away from zero."""
    x, exponent = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def rounding_shift(x: np.ndarray, right: np.ndarray | int) -> np.ndarray:
    """floor(x / 2^right + 1/2) for right > 0 (0 from right = 63 on); x * 2^-right within +-2^62 for right <= 0."""
    x, right = np.broadcast_arrays(np.asarray(x, np.int64), np.asarray(right, np.int64))
    down = np.clip(right, 1, 62)
    shifted = (x >> down) + ((x >> (down - 1)) & 1)
    shifted = np.where(right > 62, 0, shifted)
    up = np.clip(-right, 0, 62)
    limit = np.int64(1 << 62) >> up
    raised = np.where(x > limit, 1 << 62, np.where(x < -limit, -(1 << 62), np.clip(x, -limit, limit) << up))
    return np.where(right > 0, shifted, raised)


def stochastic_shift(x: np.ndarray, right: np.ndarray | int, noise: np.ndarray) -> np.ndarray:
    """x / 2^right, rounded up with the probability of its fraction: a uint32 of `noise` is added below the last bit.

    |x| <= 2^62; for right <= 0 nothing is to be rounded, and it is `rounding_shift`.
    """
    x, right, noise = np.broadcast_arrays(np.asarray(x, np.int64), np.asarray(right, np.int64), noise.astype(np.int64))
    kept = x >> np.clip(right - 61, 0, 63)  # so that x and dither fit 63 bits
    down = np.clip(right, 1, 61)
    dither = np.where(down >= 32, noise << np.clip(down - 32, 0, 61), noise >> np.clip(32 - down, 0, 32))
    return np.where(right > 0, (kept + dither) >> down, rounding_shift(x, right))


def bit_lengths(x: np.ndarray) -> np.ndarray:
    """Number of bits of each element of an int64 array, x >= 0."""
    x = np.asarray(x, np.int64)
    high = x >> 32
    # below 2^32 a double is exact, so its exponent is the number of bits
    return np.where(high > 0, np.frexp(high.astype(np.float64))[1] + 32, np.frexp(x.astype(np.float64))[1])


def saturate(x: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(x, low, high)


def wrap32(x: np.ndarray) -> np.ndarray:
    """Two's complement wrap to int32, as C's conversion does."""
    return (np.asarray(x, np.int64) + (1 << 31)) % (1 << 32) - (1 << 31)


def round_half_away(x: float) -> int:
    return math.floor(x + 0.5) if x >= 0 else -math.floor(-x + 0.5)


# --- block floating point -------------------------------------------------------------------------------------------


def bit_length(x: int) -> int:
    return int(x).bit_length()


def mantissa_bits(dtype: npt.DTypeLike) -> int:
    """Of a gradient's mantissas: 16 or 8."""
    return np.dtype(dtype).itemsize * 8


def spare_bits(dtype: npt.DTypeLike) -> int:
    """How many bits finer than 2^-15 a factor times a mantissa may be kept in 16 bits."""
    return 16 - mantissa_bits(dtype)


def exponent_begin(state: np.ndarray, bits: int = 16) -> int:
    """Start a step of a gradient tensor: forget a tenth of its peak, and return the exponent for what is left.

    state: int32[3] {exponent, peak mantissa in [2^30, 2^31) or 0, peak exponent}; peak = mantissa * 2^exponent.
    The exponent leaves one bit of headroom above the peak in a mantissa of `bits`. Changes `state`.
    """
    mantissa, exponent = int(state[1]), int(state[2])
    if mantissa:
        mantissa = (mantissa * PEAK_DECAY) >> 16
        if mantissa < 1 << 30:
            mantissa <<= 1
            exponent -= 1
        state[1], state[2] = mantissa, exponent
        # peak < 2^(31 + exponent); a mantissa holds 2^(bits - 1), one bit of it is headroom
        state[0] = min(max(exponent + 31 - (bits - 2), EXPONENT_MIN), EXPONENT_MAX)
    return int(state[0])


def exponent_end(state: np.ndarray, magnitude: int, exponent: int) -> None:
    """Finish a step: the largest |value| seen was magnitude * 2^exponent (before saturation)."""
    if magnitude == 0:
        return
    length = bit_length(magnitude)
    # truncation: the same 31 leading bits on every machine
    mantissa = magnitude >> (length - 31) if length > 31 else magnitude << (31 - length)
    exponent += length - 31
    if int(state[1]) == 0 or (exponent, mantissa) > (int(state[2]), int(state[1])):
        state[1], state[2] = mantissa, exponent


def to_mantissas(values: np.ndarray, values_exponent: int, state: np.ndarray, dtype: str = "int16") -> np.ndarray:
    """values * 2^values_exponent as mantissas under the delayed exponent kept in `state` (changed).

    int16 mantissas are rounded half up, int8 ones stochastically, with random words that depend on the state.
    """
    bits = mantissa_bits(dtype)
    exponent = exponent_begin(state, bits)
    key = rounding_key(state)
    values = np.asarray(values, np.int64)
    exponent_end(state, int(np.max(np.abs(values), initial=0)), values_exponent)
    right = exponent - values_exponent
    if bits == 16:
        rounded = rounding_shift(values, right)
    else:
        rounded = stochastic_shift(values, right, words_of_key(key, values.size).reshape(values.shape))
    return saturate(rounded, -(1 << (bits - 1)), (1 << (bits - 1)) - 1).astype(dtype)


def rounding_key(state: np.ndarray) -> int:
    """Key of the random words that round a gradient tensor in a step, from its peak, which no two steps share."""
    mantissa, exponent = int(state[1]), int(state[2])
    return int(_hash_word(np.uint64((mantissa ^ (exponent * 0x9E3779B9)) & _WORD)))


# --- updates --------------------------------------------------------------------------------------------------------

_WORD = 0xFFFFFFFF


def random_words(seed: int, stream: int, step: int | np.ndarray, count: int) -> np.ndarray:
    """Counter-based generator: word i of a stream at a step, uint32[count]; the same on every machine.

    Two rounds of a 32-bit integer hash (multiply and xor-shift) over seed, stream, step and index. An array of steps
    [N] gives words [N, count].
    """
    key = _hash_word(np.uint64((seed ^ (stream * 0x9E3779B9)) & _WORD))
    steps = np.asarray(step, np.int64).astype(np.uint64)[..., None]
    return words_of_key(_hash_word((key + steps) & np.uint64(_WORD)), count)


def words_of_key(key: int | np.ndarray, count: int) -> np.ndarray:
    """The first `count` random words of a key, uint32; of keys [N, 1]: [N, count]."""
    index = np.arange(count, dtype=np.uint64)
    return _hash_word((index * np.uint64(0x9E3779B9) + np.asarray(key, np.uint64)) & np.uint64(_WORD)).astype(np.uint32)


def _hash_word(x: np.ndarray | np.uint64) -> np.ndarray:
    x = np.asarray(x, np.uint64)
    x = x ^ (x >> np.uint64(16))
    x = (x * np.uint64(0x7FEB352D)) & np.uint64(_WORD)
    x = x ^ (x >> np.uint64(15))
    x = (x * np.uint64(0x846CA68B)) & np.uint64(_WORD)
    return np.asarray(x ^ (x >> np.uint64(16)))


@dataclass(frozen=True)
class LearningRate:
    """lr = mantissa * 2^(exponent - 31); mantissa 0 or in [2^30, 2^31)."""

    mantissa: int
    exponent: int

    @staticmethod
    def from_float(lr: float) -> LearningRate:
        """Exactly the float32 nearest to `lr`; negative, NaN and infinite rates are refused."""
        with np.errstate(over="ignore"):
            value = float(np.float32(lr))
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"learning rate must be finite and not negative, got {lr}")
        fraction, exponent = math.frexp(value)
        return LearningRate(int(fraction * (1 << 31)), exponent if value else 0)

    def divided(self, by: int) -> LearningRate:
        """Its share for each of `by` samples, 1 to 65535, rounded half up to 24 bits: a float32 again."""
        if not 1 <= by <= 65535:
            raise ValueError(f"a batch has 1 to 65535 samples, not {by}")
        if by == 1 or self.mantissa == 0:
            return self
        return rounded_rate((self.mantissa << 32) // by, self.exponent - 32)

    def to_float(self) -> float:
        return math.ldexp(self.mantissa, self.exponent - 31)


def rounded_rate(value: int, exponent: int) -> LearningRate:
    """value * 2^(exponent - 31) with 24 significant bits, rounded half up; value >= 2^24 (or 0)."""
    if value == 0:
        return LearningRate(0, 0)
    drop = value.bit_length() - 24
    mantissa = (value + (1 << (drop - 1))) >> drop if drop > 0 else value
    carry = mantissa >> 24
    return LearningRate((mantissa >> carry) << 7, exponent + drop + carry - 7)


def combine_multipliers(lr: LearningRate, multiplier: int, shift: int) -> tuple[int, int]:
    """lr * multiplier * 2^(shift-31), renormalized to a mantissa in [2^30, 2^31) (or 0)."""
    product = lr.mantissa * int(multiplier)  # in [2^60, 2^62) or 0
    if product == 0:
        return 0, 0
    exponent = lr.exponent + int(shift)
    if product < 1 << 61:
        return product >> 30, exponent - 1
    return product >> 31, exponent


def scaled_delta(
    total: np.ndarray, total_shift: int, mantissa: np.ndarray, exponent: np.ndarray, noise: np.ndarray | None = None
) -> np.ndarray:
    """total * mantissa * 2^(exponent-31), rounded: half up, or by adding `noise` (uint32) below the last bit.

    total_shift: right shift (rounding) that provably brings `total` into 32 bits; it is undone by the exponent.
    Result saturated to +-2^62.
    """
    reduced = rounding_shift(total, total_shift) if total_shift else np.asarray(total, np.int64)
    product = reduced * np.asarray(mantissa, np.int64)
    right = 31 - np.asarray(exponent, np.int64) - total_shift
    if noise is None:
        return rounding_shift(product, right)
    return stochastic_shift(product, right, noise)
