# SPDX-License-Identifier: Apache-2.0
"""Heart beats: a network for the patients of MIT-BIH's DS1 learns a patient of DS2 from a few labelled beats.

Classes of the AAMI: N normal, S supraventricular, V ventricular, F fusion. Data: mitbih_ecg_aami4.npz (the split by
patients of de Chazal et al., 2004; one beat is 256 samples of lead MLII at 360 Hz, 100 of them before the R peak).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adapt import Case, Example, Learning, Samples, Split, main, some_of_each_class
from nets import Recipe, base_model

from tinytrain.train import all_weights

FILE = "datasets/mitbih_ecg_aami4.npz"
CLASSES = ("N", "S", "V", "F")
RECIPE = Recipe(widths=(8, 16, 24, 32), kernel=9, stride=4, epochs=15)
SHOWN = 10  # beats per class that a patient's doctor labels, but at most half of those there are
HELD = 1000  # beats of the base model's patients that it is never trained on
LEAST = 10  # a patient needs so many beats of at least two classes


def load(folder: Path) -> tuple[Samples, Samples]:
    """DS1 and DS2. Beats in mV, without their median."""
    with np.load(folder / FILE) as file:
        return _samples(file, "train"), _samples(file, "test")


def _samples(file: dict[str, np.ndarray], part: str) -> Samples:
    beats = (file[f"x_{part}"].astype(np.float32) - float(file["adc_zero"])) / float(file["gain_adu_per_mV"])
    beats -= np.median(beats, axis=1, keepdims=True)
    return Samples(beats[..., None], file[f"y_{part}"].astype(np.int64), file[f"record_{part}"].astype(str))


def splits(loaded: tuple[Samples, Samples], seed: int) -> list[Split]:
    first, second = loaded
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(first))
    patients = [name for name in np.unique(second.origin) if _varied(second.y[second.origin == name])]
    cases = [_case(name, second.take(second.origin == name), rng) for name in patients]
    return [Split("", first.take(order[HELD:]), first.take(order[:HELD]), cases)]


def _varied(y: np.ndarray) -> bool:
    return int((np.bincount(y) >= LEAST).sum()) >= 2


def _case(name: str, beats: Samples, rng: np.random.Generator) -> Case:
    shown = some_of_each_class(beats.y, SHOWN, rng, share=0.5)
    return Case(f"patient {name}", beats.take(shown), beats.take(np.setdiff1d(np.arange(len(beats)), shown)))


def model(build: Path, split: Split, seed: int) -> Path:
    return base_model(build, "ecg", RECIPE, split.base.x, split.base.y, len(CLASSES), seed)


EXAMPLE = Example(
    "ecg", "Heart beats of a new patient", CLASSES, "rp2040", "12K", Learning(epochs=10, lr=0.002, replay=10), (FILE,),
    load, splits, model, all_weights,
)  # fmt: skip

if __name__ == "__main__":
    main(EXAMPLE)
