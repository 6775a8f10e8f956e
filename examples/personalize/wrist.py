# SPDX-License-Identifier: Apache-2.0
"""Activities from a wrist: a network for ten people learns another person's movements from a few windows of each.

Data: hmp_wrist_accel.npz (Bruno et al., 2013; 12 activities, 3 axes at 32 Hz, windows of 4 s). What a person shows
comes from recordings of the pack's training part, what the device is tested on from recordings of its test part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adapt import Case, Example, Learning, Samples, Split, main, some_of_each_class
from nets import Recipe, base_model

from tinytrain.train import all_weights

FILE = "datasets/hmp_wrist_accel.npz"
CLASSES = (
    "Brush_teeth", "Climb_stairs", "Comb_hair", "Descend_stairs", "Drink_glass", "Getup_bed", "Liedown_bed",
    "Pour_water", "Sitdown_chair", "Standup_chair", "Use_telephone", "Walk",
)  # fmt: skip
PEOPLE = ("f2", "f4", "m1", "m2", "m3", "m4")  # new to the base model; each did at least 6 of the activities
RECIPE = Recipe(widths=(16, 32, 48), kernel=7, stride=2, epochs=40, noise=0.05)
SHOWN = 10  # windows per activity


def load(folder: Path) -> tuple[Samples, Samples]:
    """The training and the test part; codes 0..63 become about -2..2."""
    with np.load(folder / FILE) as file:
        return _samples(file, "train"), _samples(file, "test")


def _samples(file: dict[str, np.ndarray], part: str) -> Samples:
    windows = (file[f"x_{part}"].astype(np.float32) - 31.5) / 16
    return Samples(windows, file[f"y_{part}"].astype(np.int64), file[f"subject_{part}"].astype(str))


def splits(loaded: tuple[Samples, Samples], seed: int) -> list[Split]:
    train, test = loaded
    rng = np.random.default_rng(seed)
    known, held = (part.take(~np.isin(part.origin, PEOPLE)) for part in loaded)
    cases = []
    for person in PEOPLE:
        own = train.take(train.origin == person)
        shown = own.take(some_of_each_class(own.y, SHOWN, rng))
        cases.append(Case(f"person {person}", shown, test.take(test.origin == person)))
    return [Split("", known, held, cases)]


def model(build: Path, split: Split, seed: int) -> Path:
    return base_model(build, "wrist", RECIPE, split.base.x, split.base.y, len(CLASSES), seed)


EXAMPLE = Example(
    "wrist", "Activities of a new person", CLASSES, "rp2040", "16K", Learning(epochs=10, lr=0.002, replay=10), (FILE,),
    load, splits, model, all_weights,
)  # fmt: skip

if __name__ == "__main__":
    main(EXAMPLE)
