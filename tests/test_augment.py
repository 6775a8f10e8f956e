# SPDX-License-Identifier: Apache-2.0
"""Augmentation is what docs/arithmetic.md says, pixel by pixel, in plain integers."""

from __future__ import annotations

import numpy as np
import pytest

from tinytrain.augment import STREAM, Augment, mirrored, scaled
from tinytrain.errors import DataError
from tinytrain.ops.arithmetic import random_words
from tinytrain.session.schedule import training_steps

SEED, ZERO = 3, -11
CASES = [
    Augment(flip=True), Augment(shift=3), Augment(crop=0.5), Augment(gain=0.4), Augment(flip=True, crop=0.875),
    Augment(flip=True, shift=2, crop=0.7, gain=0.1),
]  # fmt: skip


def sample(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


def by_hand(x: np.ndarray, augment: Augment, step: int) -> np.ndarray:
    """One element at a time; x is [H, W, C]."""
    words = [int(word) for word in random_words(SEED, STREAM, step, 7)]
    height, width, channels = x.shape
    sources = []
    for extent, shift, place in ((height, words[1], words[4]), (width, words[2], words[5])):
        least = max(1, int(extent * augment.crop))
        cut = extent - (words[3] * (extent - least + 1) >> 32)
        start = place * (extent - cut + 1) >> 32
        moved = (shift * (2 * augment.shift + 1) >> 32) - augment.shift
        sources.append(
            [start + (2 * min(max(i - moved, 0), extent - 1) + 1) * cut // (2 * extent) for i in range(extent)]
        )
    if augment.flip and words[0] >= 1 << 31:
        sources[1].reverse()
    most = int(augment.gain * 32768)
    factor = 32768 + (words[6] * (2 * most + 1) >> 32) - most
    y = np.empty_like(x)
    for row in range(height):
        for column in range(width):
            for channel in range(channels):
                value = int(x[sources[0][row], sources[1][column], channel]) - ZERO
                y[row, column, channel] = min(max(((value * factor + 16384) >> 15) + ZERO, -128), 127)
    return y


@pytest.mark.parametrize("augment", CASES)
def test_every_pixel_is_where_the_definition_puts_it(augment: Augment) -> None:
    x = sample((7, 10, 2))
    made = [augment.apply(x, ZERO, SEED, step) for step in range(20)]
    for step, got in enumerate(made):
        np.testing.assert_array_equal(got, by_hand(x, augment, step), err_msg=f"step {step}")
        assert got.dtype == np.int8 and got.flags["C_CONTIGUOUS"]
    assert len({got.tobytes() for got in made}) > (1 if augment == Augment(flip=True) else 5)


def test_the_example_of_the_documentation() -> None:
    words = [int(word) for word in random_words(1, STREAM, 0, 7)]
    assert (scaled(words[1], 9) - 4, scaled(words[2], 9) - 4, words[0] >> 31) == (-4, -1, 1)


def test_nothing_is_the_default() -> None:
    x = sample((5, 6, 3))
    assert Augment() == Augment.parse("") and Augment().fixed
    assert all(np.array_equal(Augment().apply(x, ZERO, SEED, step), x) for step in range(5))


@pytest.mark.parametrize("shape", [(40,), (40, 3), (1, 40, 3), (40, 1, 3)])
def test_a_signal_moves_in_time_and_repeats_its_edge(shape: tuple[int, ...]) -> None:
    x = np.broadcast_to(np.arange(40).reshape([40 if size == 40 else 1 for size in shape]), shape).astype(np.int8)
    seen = set()
    for step in range(40):
        y = Augment(shift=2).apply(x, ZERO, SEED, step)
        assert y.shape == shape
        series = y.reshape(40, -1)[:, 0].astype(int)
        moved = int(20 - series[20])
        assert series.tolist() == np.clip(np.arange(40) - moved, 0, 39).tolist()
        seen.add(moved)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_crop_stays_inside_and_uses_all_its_sizes() -> None:
    x = np.arange(100, dtype=np.int8).reshape(100, 1, 1)
    starts, cuts = set(), set()
    for step in range(300):
        y = Augment(crop=0.9).apply(x, ZERO, SEED, step).ravel().astype(int)
        assert (np.diff(y) >= 0).all() and y[-1] - y[0] >= 88
        starts.add(int(y[0]))
        cuts.add(int(y[-1] - y[0]))
    assert starts == set(range(11)) and len(cuts) >= 10


def test_gain_keeps_the_zero_point_and_saturates() -> None:
    x = np.array([[[ZERO]], [[127]], [[-128]]], np.int8)
    made = np.array([Augment(gain=0.9).apply(x, ZERO, SEED, step).ravel() for step in range(50)])
    assert (made[:, 0] == ZERO).all() and made[:, 1].max() == 127 and made[:, 2].min() == -128
    assert made[:, 1].min() < 30


def test_steps_say_which_images_are_mirrored() -> None:
    labels = np.zeros(25, np.int64)
    steps = training_steps(labels, epochs=4, seed=SEED, flip=True)
    assert [step.flipped for step in steps] == mirrored(SEED, 100).tolist()
    x = sample((2, 4, 1))
    for number, step in enumerate(steps):
        want = x[:, ::-1] if step.flipped else x
        np.testing.assert_array_equal(Augment(flip=True).apply(x, ZERO, SEED, number), want)


def test_numbers_from_words_cover_their_range_evenly() -> None:
    assert [scaled(word, 5) for word in (0, (1 << 32) - 1, 1 << 31)] == [0, 4, 2]
    counts = np.bincount([scaled(int(word), 6) for word in random_words(1, STREAM, 0, 6000)], minlength=6)
    assert len(counts) == 6 and counts.min() > 850


def test_text_is_parsed() -> None:
    assert Augment.parse(" flip, shift=4,crop=0.875 ,gain=0.1") == Augment(True, 4, 0.875, 0.1)
    assert Augment.parse("flip").fixed and not Augment.parse("flip,shift=1").fixed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "'flop' is no augmentation"), ("flip=1", "'flip=1'"), ("shift", "'shift'"), ("flip,flip", "'flip'"),
        ("shift=2.5", "shift '2.5' is not a number"), ("shift=-1", "shift of -1"), ("crop=0", "crop of 0"),
        ("crop=1.5", "crop of 1.5"), ("crop=nan", "crop of nan"), ("gain=1", "gain of 1"), ("shift=99999", "99999"),
    ],
)  # fmt: skip
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment.parse(text)


def test_vectors_are_not_mirrored() -> None:
    with pytest.raises(DataError, match="cannot be mirrored"):
        Augment(flip=True).check((40, 3))
    Augment(flip=True).check((4, 4, 1))
    Augment(shift=4).check((40,))
