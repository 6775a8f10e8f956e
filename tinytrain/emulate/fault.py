# SPDX-License-Identifier: Apache-2.0
"""From the registers a fault leaves to a message a person can act on."""

from __future__ import annotations

from pathlib import Path

from tinytrain.boards import Board, Memory
from tinytrain.emulate.elf import Elf
from tinytrain.emulate.protocol import Line
from tinytrain.errors import FirmwareFault

_STACKING = 1 << 4 | 1 << 12 | 1 << 20  # memory fault, bus fault while pushing; v8-M stack limit
_EXCEPTIONS = {2: "NMI", 3: "hard fault", 4: "memory fault", 5: "bus fault", 6: "usage fault", 7: "secure fault"}
_CAUSES = {  # bits of CFSR
    0: "it executed from memory that is not code",
    16: "it executed an undefined instruction: code built for another core?",
    17: "it jumped to an address without the Thumb bit",
    18: "it returned from an exception with an impossible value",
    19: "it used the FPU or Helium while that was off",
    24: "it made an unaligned access, which the core does not allow",
    25: "it divided by zero",
}
_NEAR = 4096  # an access this close past a memory has most likely run over its end


def explain_fault(line: Line, board: Board, elf: Path) -> FirmwareFault:
    """The exception for an @fault line."""
    cfsr, sp = line["cfsr"], line["sp"]
    address, pc = line.values.get("address"), line.values.get("pc")
    place = _place(elf, pc)
    if cfsr & _STACKING or _overflowed(board, address, sp):
        return FirmwareFault(
            "the firmware overflowed its main stack"
            + (f": it touched {address:#010x}, below its SRAM" if address is not None else ""),
            where=f"{place}, stack pointer {sp:#010x}, SRAM starts at {board.sram.origin:#010x}",
            why="the stack lies at the very bottom of SRAM, so running over its end leaves SRAM",
            fix="export with a larger stack, or find the recursion",
        )
    if address is not None:
        region, cause = _region(board, address)
        return FirmwareFault(
            f"the firmware touched {address:#010x}: {region}",
            where=place,
            why=cause,
            fix="a tinytrain kernel never does this: look at code added by hand, or report it with the plan",
        )
    causes = [text for bit, text in _CAUSES.items() if cfsr >> bit & 1]
    return FirmwareFault(
        f"the firmware stopped with a {_EXCEPTIONS.get(line['exception'], 'exception ' + str(line['exception']))}",
        where=place,
        why="; ".join(causes) or f"CFSR {cfsr:#010x}, HFSR {line['hfsr']:#010x}",
    )


def _place(elf: Path, pc: int | None) -> str:
    if pc is None:
        return "a place the core did not record"
    name = Elf(elf).function_at(pc)
    return f"{name} (pc {pc:#010x})" if name else f"pc {pc:#010x}"


def _overflowed(board: Board, address: int | None, sp: int) -> bool:
    """An access just below SRAM while the stack pointer is down there too."""
    if address is None or not board.sram.origin - _NEAR <= address < board.sram.origin:
        return False
    return sp < board.sram.origin + 256


def _region(board: Board, address: int) -> tuple[str, str]:
    for name, memory in (("SRAM", board.sram), ("flash", board.flash)):
        if memory.end <= address < memory.end + _NEAR:
            beyond = address - memory.end + 1
            return f"{_bytes(beyond)} past the end of its {name} ({_range(memory)})", f"it ran over the end of {name}"
        if memory.origin - _NEAR <= address < memory.origin:
            before = memory.origin - address
            return f"{_bytes(before)} before its {name} ({_range(memory)})", f"it ran below the start of {name}"
        if memory.origin <= address < memory.end:
            what = "it wrote to flash, or through a null pointer" if name == "flash" else "it executed from SRAM"
            return f"inside its {name} ({_range(memory)})", what
    if address < _NEAR:
        return "a null pointer", "it used a pointer that was never set"
    return "neither flash nor SRAM", "it used a wild pointer, or a peripheral that the board description does not allow"


def _bytes(count: int) -> str:
    return f"{count:,} byte" + ("s" if count != 1 else "")


def _range(memory: Memory) -> str:
    return f"{memory.origin:#010x} to {memory.end - 1:#010x}"
