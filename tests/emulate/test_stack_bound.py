# SPDX-License-Identifier: Apache-2.0
"""The static stack bound is never below the mark a run leaves, and never silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board, all_boards, load
from tinytrain.emulate import CommandStream, board_of, build, fit_stack, run, stack_bound
from tinytrain.errors import EmulationError, FirmwareFault

pytestmark = pytest.mark.boards
Firmware = Callable[..., Path]


@pytest.mark.parametrize("board", all_boards(), ids=lambda board: board.name)
@pytest.mark.parametrize("frame", [24, 600, 5000])  # Armv6-M takes each of these off the stack pointer in another way
def test_bound_holds_a_kernels_frame(board: Board, frame: int, firmware: Firmware, samples: np.ndarray) -> None:
    folder = firmware(board, stack=8192, FAKE_FRAME=str(frame))
    bound = stack_bound(build(folder))
    used = run(folder, CommandStream().train(0, 1).count(1, 2), samples).final.stack_used
    assert frame < used <= bound.main <= used + 400
    if frame >= 600:
        assert "fake_update" in bound.path, "the deepest path goes through the program table"


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an505", "mps3-an547", "rp2040"])
def test_a_stack_of_exactly_the_bound_is_enough(name: str, firmware: Firmware, samples: np.ndarray) -> None:
    steps = CommandStream().train(0, 1).evaluate(1, 1).logits(2).count(3, 0)
    first = firmware(load(name), stack=8192, FAKE_FRAME="1000")
    bound = fit_stack(first).main
    assert run(first, steps, samples).final.stack_used <= bound == board_of(first)[1]
    first.rename(first.with_name("first"))
    with pytest.raises(FirmwareFault, match="overflowed its main stack"):
        run(firmware(load(name), stack=1000, FAKE_FRAME="1000"), steps, samples)


@pytest.mark.parametrize("name", ["mps2-an385", "rp2040"])
def test_recursion_is_refused_by_name(name: str, firmware: Firmware) -> None:
    with pytest.raises(EmulationError, match="recursive") as error:
        stack_bound(build(firmware(load(name), FAKE_RECURSE="1")))
    assert "fake_update -> fake_update" in error.value.why


@pytest.mark.parametrize("name", ["mps2-an385", "rp2040"])
def test_a_frame_of_variable_size_is_refused_by_name(name: str, firmware: Firmware) -> None:
    with pytest.raises(EmulationError, match="the stack of 'fake_update' has no bound"):
        stack_bound(build(firmware(load(name), FAKE_VARIABLE="1")))
