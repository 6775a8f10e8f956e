# SPDX-License-Identifier: Apache-2.0
"""One run of qemu-system-arm: starts it, yields its lines, and always ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from tinytrain.boards import Board
from tinytrain.emulate.tools import tool
from tinytrain.errors import EmulationError

ICOUNT_SHIFT = 7  # an instruction lasts 2^7 ns: two ticks or more of every board's clock, so none is lost in rounding

_PR_SET_PDEATHSIG = 1


def command(board: Board, elf: Path, count: bool) -> list[str]:
    """The qemu command line. With `count`, time is a function of the instructions executed."""
    return [
        tool("qemu-system-arm"),
        *("-M", board.machine, "-nographic", "-nodefaults", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native,chardev=console", "-chardev", "stdio,id=console,signal=off"),
        *(("-icount", f"shift={ICOUNT_SHIFT},sleep=off") if count else ()),
        *("-kernel", str(elf)),
    ]


def lines(arguments: list[str], directory: Path, quiet_limit: float) -> Generator[str, None, None]:
    """What the board prints, line by line, until it ends. Silence longer than `quiet_limit` seconds is an error.

    However the caller leaves (an error, Ctrl-C, its own death) the emulator is ended.
    """
    errors = directory / "qemu-errors.txt"
    with errors.open("wb") as error_file:
        process = subprocess.Popen(
            arguments,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error_file,
            start_new_session=True,  # a Ctrl-C at the terminal goes to us; we end qemu
            preexec_fn=_die_with_parent,
        )
        try:
            yield from _read_lines(process, quiet_limit)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    text = errors.read_text(errors="replace").strip()
    if code not in (0, 2, 3):  # 2 and 3 are the firmware's own: it has printed why
        raise EmulationError(f"qemu-system-arm ended with code {code}", why="\n       ".join(text.splitlines()[-3:]))


def _read_lines(process: subprocess.Popen[bytes], quiet_limit: float) -> Iterator[str]:
    assert process.stdout is not None
    pending = b""
    last = time.monotonic()
    while True:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, last + quiet_limit - time.monotonic()))
        if not ready:
            raise EmulationError(
                f"the board has said nothing for {quiet_limit:g} seconds",
                why="the firmware hangs, or a step takes longer than that here",
                fix="a larger quiet_limit, if steps are slow",
            )
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")
        last = time.monotonic()
    if pending:
        yield pending.decode(errors="replace")


def _die_with_parent() -> None:
    """Linux ends the emulator even when this process is killed outright."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
