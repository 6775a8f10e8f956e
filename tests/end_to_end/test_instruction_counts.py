# SPDX-License-Identifier: Apache-2.0
"""Instructions of MCUNet's step and inference on every core stay what they were: the tables of docs/ stay true.

Counts are exact, so a change is a change of code (or of the compiler). Where a kernel was made faster on purpose:
`make bench BENCH=--pin`.
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINNED = json.loads((Path(__file__).with_name("instruction_counts.json")).read_text())
TOLERANCE = 0.03

pytestmark = [
    pytest.mark.boards,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm"),
]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/works.py"""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("works")


@pytest.mark.parametrize("board", PINNED["boards"])
def test_a_step_and_an_inference_take_as_many_instructions_as_they_did(board: str, works: ModuleType) -> None:
    profile, pinned = works.MCUNET.profile(board), PINNED["boards"][board]
    for name, found in (("inference", profile.inference), ("train_step", profile.train_step)):
        change = found / pinned[name] - 1
        assert abs(change) <= TOLERANCE, (
            f"{name} on {board}: {found:,} instructions, {pinned[name]:,} pinned ({change:+.1%}); "
            f"make bench BENCH='--boards {board} --works mcunet --no-host' says which kernel; {PINNED['command']}"
        )


def test_every_core_of_the_table_is_pinned(works: ModuleType) -> None:
    assert tuple(PINNED["boards"]) == works.FIVE
