# SPDX-License-Identifier: Apache-2.0
"""Bearing faults: a network for one load of a motor learns another load; one for two sizes of damage learns another.

Data: cwru_bearing.npz (Case Western Reserve University; drive end, 12 kHz, windows of 1024 samples that do not overlap,
but for those of the normal bearing, which exist at load 0 only). The new windows are therefore of faults only, and the
old ones on which forgetting is measured are of all classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from adapt import Case, Example, Learning, Samples, Split, main, some_of_each_class
from nets import Recipe, base_model

from tinytrain.train import all_weights

FILE = "datasets/cwru_bearing.npz"
CLASSES = ("normal", "ball", "inner_race", "outer_race")
RECIPE = Recipe(widths=(8, 16, 24, 32), kernel=17, stride=4, epochs=20)
SHOWN = 40  # windows per fault: 3.4 seconds
HELD_SHARE = 0.2


@dataclass(frozen=True)
class Windows:
    """All windows; late: the last 30 % of the normal recording, which overlap no earlier ones."""

    samples: Samples
    load: np.ndarray
    size: np.ndarray
    late: np.ndarray


def load(folder: Path) -> Windows:
    """Each window without its mean, at a deviation of 1: the loudness of a fault depends on the load."""
    with np.load(folder / FILE) as file:
        x, y, hp, mil = (
            np.concatenate([file[f"{name}_train"], file[f"{name}_test"]])
            for name in ("x", "y", "load_hp", "fault_size_mil")
        )
        late = np.arange(len(y)) >= len(file["y_train"])
    x = x - x.mean(axis=1, keepdims=True)
    x = (x / x.std(axis=1, keepdims=True)).astype(np.float32)[..., None]
    origin = np.array([f"load {a}, {b} mil" for a, b in zip(hp, mil)])
    return Windows(Samples(x, y.astype(np.int64), origin), hp, mil, late & (y == 0))


def splits(loaded: Windows, seed: int) -> list[Split]:
    hp, mil = loaded.load, loaded.size
    known = np.isin(mil, (0, 7, 21))
    return [
        _split("base: load 0", loaded, hp == 0, {f"load {n}": hp == n for n in (1, 2, 3)}, seed),
        _split("base: damage of 7 and 21 mil", loaded, known, {f"{n} mil": mil == n for n in (14, 28)}, seed),
    ]


def _split(name: str, loaded: Windows, known: np.ndarray, new: dict[str, np.ndarray], seed: int) -> Split:
    rng = np.random.default_rng(seed)
    faulty = known & (loaded.samples.y > 0)
    held = (faulty & (rng.random(len(known)) < HELD_SHARE)) | loaded.late
    base = known & ~held
    return Split(
        name, loaded.samples.take(base), loaded.samples.take(held),
        [_case(case, loaded.samples.take(mask), rng) for case, mask in new.items()],
    )  # fmt: skip


def _case(name: str, windows: Samples, rng: np.random.Generator) -> Case:
    shown = some_of_each_class(windows.y, SHOWN, rng)
    return Case(name, windows.take(shown), windows.take(np.setdiff1d(np.arange(len(windows)), shown)))


def model(build: Path, split: Split, seed: int) -> Path:
    return base_model(build, "bearing", RECIPE, split.base.x, split.base.y, len(CLASSES), seed)


EXAMPLE = Example(
    "bearing", "Bearing faults under a new load, and of a new size", CLASSES, "nrf52840", "24K",
    Learning(epochs=20, lr=0.008, replay=20), (FILE,), load, splits, model, all_weights,
)  # fmt: skip

if __name__ == "__main__":
    main(EXAMPLE)
