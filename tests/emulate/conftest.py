# SPDX-License-Identifier: Apache-2.0
"""A firmware folder that needs no compiler of ours: the linear classifier in fake_model/."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board
from tinytrain.emulate import makefile, render

FAKE_MODEL = Path(__file__).parent / "fake_model"
RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"
RUNTIME_FILES = {"include/tinytrain": ("types.h", "program.h"), "src": ("executor.c",)}


@pytest.fixture
def firmware(tmp_path: Path) -> Callable[..., Path]:
    """firmware(board, stack=1024, FAKE_READ="0x0", ...) -> an exported folder. FAKE_* make the model misbehave."""

    def make(board: Board, stack: int = 1024, **fakes: str) -> Path:
        folder = tmp_path / f"firmware-{board.name}"
        render(board, stack, folder)
        (folder / "Makefile").write_text(makefile(board))
        for place, names in RUNTIME_FILES.items():
            target = folder / "tinytrain" / place
            target.mkdir(parents=True)
            for name in names:
                shutil.copy(RUNTIME / place / name, target)
        defines = "".join(f"#define {name} {value}\n" for name, value in fakes.items())
        shutil.copy(FAKE_MODEL / "tinytrain_model.h", folder)
        (folder / "tinytrain_model.c").write_text(defines + (FAKE_MODEL / "tinytrain_model.c").read_text())
        return folder

    return make


@pytest.fixture(scope="session")
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (30, 8, 8, 1), dtype=np.int8)
