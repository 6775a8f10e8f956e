# SPDX-License-Identifier: Apache-2.0
"""A model file, samples for it, and plans: linked ones made once, and planning without a cross compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.small import write_model
from tinytrain.boards import Board, load
from tinytrain.errors import ToolMissing
from tinytrain.planner import Plan, make_plan
from tinytrain.planner.make import Samples


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="session")
def samples() -> Samples:
    """Noise whose class is its brightness: every layer has a gradient."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(0, 25, (60, 16, 16, 3)) + (y[:, None, None, None] - 1) * 60
    return Samples(np.clip(x, -128, 127).astype(np.int8), y)


@pytest.fixture(scope="session")
def board() -> Board:
    return load("nrf52840")


@pytest.fixture(scope="session")
def plan(model: Path, samples: Samples, board: Board) -> Plan:
    """Chosen by the planner under a narrow budget, linked for the board."""
    return make_plan(model, board.narrowed(sram=7 * 1024), samples=samples)


@pytest.fixture
def unlinked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without arm-none-eabi-gcc: overheads are assumed, planning takes a moment."""

    def missing(*_: object) -> None:
        raise ToolMissing("no arm-none-eabi-gcc on this machine")

    monkeypatch.setattr("tinytrain.planner.make.linked", missing)
