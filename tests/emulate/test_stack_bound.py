# SPDX-License-Identifier: Apache-2.0
"""The static stack bound is never below the mark a run leaves, and never silently wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board, all_boards, load
from tinytrain.emulate import CommandStream, board_of, build, fit_stack, run, stack_bound
from tinytrain.emulate.tools import tool
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


@pytest.mark.parametrize(
    ("code", "frame"),
    [
        ("ldr r3, =-540; add sp, r3; movs r3, #135; lsls r3, r3, #2; add sp, r3; bx lr", 540),
        ("sub sp, #8; ldr r3, =-604; add sp, r3; movs r3, #1; add sp, #8; ldr r2, =604; add sp, r2; bx lr", 612),
    ],
)
def test_frames_made_with_constants_in_registers_are_known(code: str, frame: int, tmp_path: Path) -> None:
    assert stack_bound(_assembled(code, tmp_path)).main == frame + 36  # an exception


@pytest.mark.parametrize(
    "code",
    [
        "ldr r3, =-540; subs r3, r3, r0; add sp, r3; bx lr",
        "ldr r3, =-540; mov r3, r0; add sp, r3; bx lr",
        "push {lr}; ldr r3, =-540; bl called; add sp, r3; pop {pc}",
        "ldr r3, =-540; ldmia r0!, {r1, r3}; add sp, r3; bx lr",
        "lsls r3, r0, #2; add sp, r3; bx lr",
    ],
)
def test_a_register_that_no_longer_holds_its_constant_is_no_bound(code: str, tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="the stack of 'main' has no bound"):
        stack_bound(_assembled(code, tmp_path))


def _assembled(code: str, folder: Path) -> Path:
    """An Armv6-M program of this main, a handler and a function to call."""
    source, elf = folder / "main.s", folder / "main.elf"
    function = ".thumb_func\n.type {0}, %function\n.globl {0}\n{0}:\n{1}\n.ltorg\n.size {0}, . - {0}\n"
    source.write_text(
        '.syntax unified\n.cpu cortex-m0plus\n.thumb\n.section .vectors, "a"\n.word 0, called\n.text\n'
        + function.format("main", code.replace(";", "\n"))
        + function.format("called", "bx lr")
    )
    flags = ["-mcpu=cortex-m0plus", "-mthumb", "-nostdlib", "-Wl,--emit-relocs,-e,main"]
    subprocess.run([tool("arm-none-eabi-gcc"), *flags, str(source), "-o", str(elf)], check=True)
    return elf
