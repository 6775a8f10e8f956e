# SPDX-License-Identifier: Apache-2.0
"""Augmentation: small random changes of training samples, in integers, so that a board can make the same ones.

Everything is drawn from the counter-based generator (ops/arithmetic.random_words): stream STREAM, the number of the
training step, and one word per quantity. docs/arithmetic.md, "Augmentation", is the contract.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinytrain.errors import DataError
from tinytrain.ops.arithmetic import random_words, rounding_shift

STREAM = 0x80000000  # update nodes count their streams from 0
_FLIP, _SHIFT_ROW, _SHIFT_COLUMN, _CROP_SIZE, _CROP_ROW, _CROP_COLUMN, _GAIN = range(7)  # words of one step
GAIN_BITS = 15
KINDS = "flip, shift=PIXELS, crop=SHARE, gain=SHARE"


@dataclass(frozen=True)
class Augment:
    """What may happen to a sample before a training step; the default is nothing.

    flip:  mirror images left to right, every other one on average
    shift: by up to so many rows and columns either way (signals: samples in time); the edge is repeated
    crop:  the smallest share of height and width that is cut out, at random, and stretched to the full size
    gain:  the largest relative change of amplitude
    """

    flip: bool = False
    shift: int = 0
    crop: float = 1.0
    gain: float = 0.0

    @staticmethod
    def parse(text: str) -> Augment:
        """From "flip,shift=4,crop=0.875,gain=0.1". Errors: DataError."""
        fields: dict[str, Any] = {}
        for part in filter(None, (item.strip() for item in text.split(","))):
            kind, given, value = part.partition("=")
            if kind not in ("flip", "shift", "crop", "gain") or kind in fields or (kind == "flip") == bool(given):
                raise DataError(f"'{part}' is no augmentation", where=f"--augment {text}", fix=f"any of {KINDS}")
            try:
                fields[kind] = True if kind == "flip" else int(value) if kind == "shift" else float(value)
            except ValueError:
                raise DataError(f"the {kind} '{value}' is not a number", where=f"--augment {text}") from None
        return Augment(**fields)

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 1 << 15:
            raise DataError(f"a shift of {self.shift}", why="it is a number of pixels, 0 to 32768", fix="shift=4")
        if not 0.0625 <= self.crop <= 1:
            raise DataError(f"a crop of {self.crop}", why="it is a share, 0.0625 to 1, of each side", fix="crop=0.875")
        if not 0 <= self.gain < 1:
            raise DataError(f"a gain of {self.gain}", why="it is a share, from 0 to below 1", fix="gain=0.1")

    @property
    def fixed(self) -> bool:
        """Whether a sample has two versions at most."""
        return self == Augment(flip=self.flip)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def check(self, shape: tuple[int, ...]) -> None:
        """DataError where samples of this shape cannot be changed so: flips are for images [H, W, C]."""
        if self.flip and len(shape) != 3:
            raise DataError(
                f"samples of {'x'.join(map(str, shape))} cannot be mirrored", fix="leave --flip and --augment flip out"
            )

    def apply(self, sample: np.ndarray, zero_point: int, seed: int, step: int) -> np.ndarray:
        """The version of an int8 sample ([H, W, C], or [T] or [T, C] in time) that training step `step` gets."""
        words = random_words(seed, STREAM, step, 7)
        if self.fixed:
            return np.ascontiguousarray(sample[:, ::-1] if self.flip and words[_FLIP] >> 31 else sample)
        rows = self._indices(sample.shape[0], int(words[_SHIFT_ROW]), int(words[_CROP_SIZE]), int(words[_CROP_ROW]))
        if sample.ndim < 3:
            return self._amplified(sample[rows], zero_point, int(words[_GAIN]))
        size, start = int(words[_CROP_SIZE]), int(words[_CROP_COLUMN])
        columns = self._indices(sample.shape[1], int(words[_SHIFT_COLUMN]), size, start)
        if self.flip and words[_FLIP] >> 31:
            columns = columns[::-1]
        return self._amplified(sample[rows[:, None], columns], zero_point, int(words[_GAIN]))

    def _indices(self, extent: int, shift: int, size: int, start: int) -> np.ndarray:
        """Where each row (or column) of the result comes from: first the crop, then the shift."""
        least = max(1, int(extent * self.crop))
        cut = extent - scaled(size, extent - least + 1)
        first = scaled(start, extent - cut + 1)
        offset = scaled(shift, 2 * self.shift + 1) - self.shift
        shifted = np.clip(np.arange(extent) - offset, 0, extent - 1)
        return first + (2 * shifted + 1) * cut // (2 * extent)

    def _amplified(self, sample: np.ndarray, zero_point: int, word: int) -> np.ndarray:
        most = int(self.gain * (1 << GAIN_BITS))
        factor = (1 << GAIN_BITS) + scaled(word, 2 * most + 1) - most
        if factor == 1 << GAIN_BITS:
            return np.ascontiguousarray(sample)
        changed = rounding_shift((sample.astype(np.int64) - zero_point) * factor, GAIN_BITS) + zero_point
        return np.clip(changed, -128, 127).astype(np.int8)


def scaled(word: int, count: int) -> int:
    """A number from 0 to count - 1, from a 32-bit word: its high bits."""
    return word * count >> 32


def mirrored(seed: int, steps: int) -> np.ndarray:
    """Which of the steps 0 .. steps - 1 get a mirrored image, where flips are on: bool [steps]."""
    return (random_words(seed, STREAM, np.arange(steps), 1)[:, _FLIP] >> 31).astype(bool)
