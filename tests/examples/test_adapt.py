# SPDX-License-Identifier: Apache-2.0
"""The whole path on a signal made here: a network from torch, quantized, learns a user whose signals are mirrored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinytrain.train import all_weights

LENGTH = 64


def signals(seed: int, count: int, sign: float, origin: str) -> Any:
    """Class 0: a bump, class 1: a notch, class 2: noise alone; `sign` -1 swaps bump and notch."""
    from adapt import Samples

    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    place = rng.integers(12, LENGTH - 12, count)
    bump = np.exp(-((np.arange(LENGTH) - place[:, None]) ** 2) / 30)
    x = bump * (sign * np.array([1.0, -1.0, 0.0]))[y, None] + rng.normal(0, 0.1, (count, LENGTH))
    return Samples(x[..., None].astype(np.float32), y, np.full(count, origin))


@pytest.fixture(scope="module")
def example() -> Any:
    pytest.importorskip("torch")
    from adapt import Case, Example, Learning, Split
    from nets import Recipe, base_model

    def splits(loaded: None, seed: int) -> list[Split]:
        case = Case("mirrored", signals(2, 30, -1, "new"), signals(3, 60, -1, "new"))
        return [Split("", signals(0, 300, 1, "old"), signals(1, 60, 1, "old"), [case])]

    def model(build: Path, split: Split, seed: int) -> Path:
        return base_model(build, "bumps", Recipe((6, 8), 5, 2, 12), split.base.x, split.base.y, 3, seed)

    return Example(
        "bumps", "Bumps", ("bump", "notch", "nothing"), "rp2040", "16K", Learning(20, 0.01, 5), (), lambda folder: None,
        splits, model, all_weights,
    )  # fmt: skip


def test_a_device_learns_a_new_user_from_a_few_samples(example: Any, tmp_path: Path) -> None:
    from adapt import as_text, measure

    found = measure(example, tmp_path, tmp_path, 1, False, lambda text: None)
    mean = found["mean"]
    assert mean["old_before"] > 0.9 and mean["new_before"] < 0.5
    assert mean["new_after_alone"] > 0.9 and mean["new_after"] > mean["new_before"] + 0.05
    assert mean["steps"] == 20 * (30 + 15)
    assert "| mirrored | 30 | 900 |" in as_text(example, found)


def test_the_same_data_gives_the_same_base_model_once(example: Any, tmp_path: Path) -> None:
    split = example.splits(None, 0)[0]
    first = example.model(tmp_path / "a", split, 0)
    content, time = first.read_bytes(), first.stat().st_mtime_ns
    assert example.model(tmp_path / "a", split, 0).stat().st_mtime_ns == time
    assert example.model(tmp_path / "b", split, 0).read_bytes() == content
    assert example.model(tmp_path / "a", split, 1) != first


def test_absent_data_is_said_plainly(tmp_path: Path) -> None:
    from adapt import data_folder

    with pytest.raises(SystemExit, match=r"error: '.*beats.npz' is not there\n  fix  --data FOLDER"):
        data_folder(tmp_path, ("beats.npz",))


@pytest.mark.shared
@pytest.mark.slow
def test_a_new_patient_is_learned(shared: Path, tmp_path: Path) -> None:
    """ecg.py with a base model that is trained for one epoch, and one patient."""
    pytest.importorskip("torch")
    from dataclasses import replace

    import ecg
    from adapt import measure
    from nets import base_model

    def splits(loaded: Any, seed: int) -> list[Any]:
        split = ecg.splits(loaded, seed)[0]
        return [replace(split, cases=split.cases[-1:])]

    def model(build: Path, split: Any, seed: int) -> Path:
        return base_model(build, "ecg", replace(ecg.RECIPE, epochs=1), split.base.x, split.base.y, 4, seed)

    short = replace(ecg.EXAMPLE, splits=splits, model=model)
    found = measure(short, shared / "data", tmp_path, 1, False, lambda text: None)
    assert found["mean"]["new_after"] > found["mean"]["new_before"] + 0.05
