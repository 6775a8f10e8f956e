# SPDX-License-Identifier: Apache-2.0
"""What is new to a base model is in none of its data, and what a device is tested on is in no training."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.shared
NAMES = ("ecg", "bearing", "wrist", "words")


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, shared: Path) -> tuple[str, Any]:
    return request.param, importlib.import_module(request.param).EXAMPLE.load(shared / "data")


@pytest.fixture(scope="module")
def splits(loaded: tuple[str, Any]) -> tuple[str, list[Any]]:
    name, data = loaded
    return name, importlib.import_module(name).EXAMPLE.splits(data, 1)


def rows(samples: Any) -> set[bytes]:
    return {x.tobytes() for x in samples.x}


def test_new_users_are_unknown_to_the_base_model(splits: tuple[str, list[Any]]) -> None:
    name, made = splits
    for split in made:
        for case in split.cases:
            for part in (case.shown, case.tested):
                if name == "words":  # there the words are new, not who speaks
                    assert not set(split.base.y) & set(part.y)
                else:
                    assert not set(split.base.origin) & set(part.origin), case.name
                    assert not set(split.held.origin) & set(part.origin), case.name


def test_nothing_tested_is_learned(splits: tuple[str, list[Any]]) -> None:
    _, made = splits
    for split in made:
        assert not rows(split.base) & rows(split.held)
        for case in split.cases:
            assert not rows(case.shown) & rows(case.tested), case.name
            assert len(case.shown) and len(case.tested)


def test_at_most_so_many_are_shown_and_the_seed_decides_which(
    splits: tuple[str, list[Any]], loaded: tuple[str, Any]
) -> None:
    name, made = splits
    module = importlib.import_module(name)
    most = getattr(module, "SHOWN", None) or module.SHOWN_DIGITS
    again, other = (module.EXAMPLE.splits(loaded[1], seed) for seed in (1, 2))
    for split, same, different in zip(made, again, other, strict=True):
        for case, twin, sibling in zip(split.cases, same.cases, different.cases, strict=True):
            assert np.bincount(case.shown.y).max() <= most
            assert np.array_equal(case.shown.x, twin.shown.x)
            assert not np.array_equal(case.shown.x, sibling.shown.x)


def test_windows_of_a_bearing_share_no_samples(shared: Path) -> None:
    """But for those of the normal bearing; its held-out ones share none with the others."""
    import bearing

    with np.load(shared / "data" / bearing.FILE) as file:
        x, y = (np.concatenate([file[f"{key}_train"], file[f"{key}_test"]]) for key in "xy")
        late = np.arange(len(y)) >= len(file["y_train"])
    blocks: dict[bytes, set[int]] = {}
    for index, window in enumerate(x):
        for start in range(0, 1024, 64):  # hops are multiples of it
            blocks.setdefault(window[start : start + 64].tobytes(), set()).add(index)
    for owners in blocks.values():
        members = sorted(owners)
        assert len(members) == 1 or (not y[members].any() and len(set(late[members])) == 1), members
