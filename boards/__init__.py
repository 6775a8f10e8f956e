# SPDX-License-Identifier: Apache-2.0
"""The boards tinytrain can build for and emulate. One board = one folder beside this file holding a `board.toml`.

`board.toml` states the memories a part really has and the QEMU machine that runs its code; nothing else in the project
lists boards. `docs/adding-a-board.md` explains every key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinytrain.errors import BoardError

ROOT = Path(__file__).resolve().parent
COMMON = ROOT / "common"  # start-up, harness and linker template, shared by every board

GRAIN = 32  # bytes: the finest step either Arm MPU can enforce, hence the finest memory size

# kernels written for a core (folders of runtime_c/src/kernels), the fastest first; any core takes the rest
_TWINS = {
    "cortex-m4": ("dsp",), "cortex-m7": ("dsp",), "cortex-m33": ("dsp",), "cortex-m55": ("mve", "dsp"),
}  # fmt: skip
_ANY_CORE = ("portable", "ref")

_UNITS = {"": 1, "K": 1024, "KB": 1024, "KIB": 1024, "M": 1024**2, "MB": 1024**2, "MIB": 1024**2}
_UNITS |= {"G": 1024**3, "GB": 1024**3, "GIB": 1024**3}


@dataclass(frozen=True)
class Memory:
    """One contiguous memory: first address and size in bytes."""

    origin: int
    size: int

    @property
    def end(self) -> int:
        """The first address past it."""
        return self.origin + self.size


@dataclass(frozen=True)
class Board:
    """What tinytrain needs to know of a board: its core, its memories, and the machine that emulates it."""

    name: str
    description: str
    core: str  # as gcc's -mcpu names it
    cflags: tuple[str, ...]  # the instruction set and the float ABI, nothing else
    mpu: str  # "v7m" (size-aligned regions with subregions) or "v8m" (base and limit)
    machine: str  # qemu-system-arm -M
    clock_hz: int  # of the emulated SysTick: turns its ticks into instructions
    flash: Memory
    sram: Memory
    core_hz: int | None = None  # of the real part's core: turns instructions into an estimate of time
    boot: int | None = None  # where the core fetches its first two words, where that is not the start of flash

    @property
    def variants(self) -> tuple[str, ...]:
        """Kinds of kernels that suit the core, the fastest first."""
        return (*_TWINS.get(self.core, ()), *_ANY_CORE)

    def narrowed(self, *, sram: int | None = None, flash: int | None = None) -> Board:
        """The same board with smaller memories: what the linker script and the MPU will enforce."""
        return replace(
            self,
            sram=_narrow(self.name, "SRAM", self.sram, sram),
            flash=_narrow(self.name, "flash", self.flash, flash),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types; `Board.from_dict` reads it back."""
        return {**asdict(self), "cflags": list(self.cflags)}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> Board:
        memories = {key: Memory(**fields[key]) for key in ("flash", "sram")}
        return Board(**{**fields, **memories, "cflags": tuple(fields["cflags"])})


def load(name: str) -> Board:
    """The board of that name."""
    path = ROOT / name / "board.toml"
    if name not in names():
        near = difflib.get_close_matches(name.lower(), names(), n=1, cutoff=0.5)
        raise BoardError(
            f"unknown board '{name}'" + (f": did you mean '{near[0]}'?" if near else ""),
            why="known boards: " + ", ".join(names()),
            fix=f"--board {near[0] if near else names()[0]}, or add a folder (docs/adding-a-board.md)",
        )
    return _read(path)


def all_boards() -> list[Board]:
    """Every board, by name."""
    return [load(name) for name in names()]


def names() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/board.toml"))


def parse_size(text: str | int) -> int:
    """'256K', '1M', '320 KB' or '262144' in bytes; K is 1024."""
    match = re.fullmatch(r"\s*(\d+)\s*([KMG]?(?:I?B)?)\s*", str(text).upper())
    unit = _UNITS.get(match[2].removeprefix("B")) if match else None
    if match is None or unit is None:
        raise BoardError(
            f"'{text}' is not a memory size", fix="write bytes, or a number with K, M or G: 256K, 1M, 200000"
        )
    return int(match[1]) * unit


def _narrow(board: str, what: str, memory: Memory, size: int | None) -> Memory:
    if size is None:
        return memory
    where = f"board {board}"
    if size > memory.size:
        raise BoardError(
            f"{board} has {memory.size:,} B of {what}, not {size:,}",
            where=where,
            why="a board can be narrowed, never widened: a plan for memory that is not there would not run",
            fix=f"--{what.lower()} {memory.size} or less, or a bigger board (tinytrain boards)",
        )
    if size <= 0 or size % GRAIN:
        raise BoardError(
            f"{what} of {size:,} B cannot be enforced",
            where=where,
            why=f"memory protection works in steps of {GRAIN} bytes",
            fix=f"--{what.lower()} {max(size // GRAIN, 1) * GRAIN}",
        )
    return Memory(memory.origin, size)


def _read(path: Path) -> Board:
    try:
        raw = tomllib.loads(path.read_text())
        board = Board(
            name=path.parent.name,
            description=raw["description"],
            core=raw["core"],
            core_hz=int(raw["core_hz"]),
            cflags=tuple(raw["cflags"]),
            mpu=raw["mpu"],
            machine=raw["emulator"]["machine"],
            clock_hz=int(raw["emulator"]["clock_hz"]),
            flash=Memory(raw["flash"]["origin"], parse_size(raw["flash"]["size"])),
            sram=Memory(raw["sram"]["origin"], parse_size(raw["sram"]["size"])),
            boot=raw["emulator"].get("boot"),
        )
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"board '{path.parent.name}' cannot be read: {error}", where=str(path)) from error
    except (KeyError, TypeError) as error:
        raise BoardError(
            f"board '{path.parent.name}' is incomplete: {error} is missing or of the wrong kind",
            where=str(path),
            fix="docs/adding-a-board.md lists every key",
        ) from error
    if board.mpu not in ("v7m", "v8m"):
        raise BoardError(f"board '{board.name}': mpu = '{board.mpu}'", where=str(path), fix='mpu = "v7m" or "v8m"')
    return board
