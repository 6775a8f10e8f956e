# SPDX-License-Identifier: Apache-2.0
"""From SysTick ticks to executed instructions."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.boards import Board
from tinytrain.emulate.protocol import Line
from tinytrain.emulate.qemu import ICOUNT_SHIFT
from tinytrain.errors import EmulationError

PHASES = ("forward", "save", "loss", "backward", "update", "apply")  # in the order of enum tt_phase
TOTALS = ("inference", "train_step", "apply")  # in the order harness.c numbers them

HANDLER_INSTRUCTIONS = 5  # of board_count_wrapped in count.c
_CLOCK_LOOPS = 0x400000  # of call_loop in harness.c, 2 instructions each
_CALL_SLACK = 8  # what call_loop may add: loading its count, returning


@dataclass(frozen=True)
class RowCount:
    row: int
    phase: str
    instructions: int


@dataclass(frozen=True)
class Instructions:
    """Executed instructions, exact and repeatable. A row's run from its kernel's first to its return."""

    inference: int
    train_step: int
    apply: int
    rows: tuple[RowCount, ...]

    @property
    def phases(self) -> dict[str, int]:
        """The rows, summed by phase; only phases that occur."""
        sums = {phase: sum(row.instructions for row in self.rows if row.phase == phase) for phase in PHASES}
        present = {row.phase for row in self.rows}
        return {phase: total for phase, total in sums.items() if phase in present}


class Counter:
    """Gathers the lines of one COUNT command."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._call = self._pair = 0  # instructions of measuring itself: a call through a pointer, and code in place
        self._totals: dict[str, int] = {}
        self._rows: list[RowCount] = []

    def take(self, line: Line) -> None:
        if line.kind == "clock":
            self._calibrate(line)
        elif line.kind == "total":
            self._totals[TOTALS[line["index"]]] = self._spent(line) - self._pair
        elif line.kind == "row":
            self._rows.append(RowCount(line["index"], PHASES[line["phase"]], self._spent(line) - self._call))

    def result(self) -> Instructions | None:
        if not self._totals:
            return None
        return Instructions(**{name: self._totals.get(name, 0) for name in TOTALS}, rows=tuple(self._rows))

    def _calibrate(self, line: Line) -> None:
        """An empty function is one instruction, its return; a known loop proves that ticks are converted rightly."""
        self._totals, self._rows = {}, []
        self._pair = self._instructions(line["pair"], 0)
        self._call = self._instructions(line["empty"], 0) - 1
        excess = self._instructions(line["loop"], line["loop_wraps"]) - self._call - 2 * _CLOCK_LOOPS
        if not 0 <= excess <= _CALL_SLACK:
            raise EmulationError(
                f"the instruction counter is off by {excess} in {2 * _CLOCK_LOOPS:,}",
                where=f"board {self._board.name}, SysTick at {self._board.clock_hz} Hz",
                why="the clock in board.toml is not the emulated one, or this QEMU counts in another way",
                fix="docs/adding-a-board.md, clock_hz",
            )

    def _spent(self, line: Line) -> int:
        return self._instructions(line["ticks"], line["wraps"])

    def _instructions(self, ticks: int, wraps: int) -> int:
        """Rounded to the nearest whole instruction: two ticks or more make one, so that is exact."""
        scale = self._board.clock_hz << ICOUNT_SHIFT  # ticks per instruction, times 10^9
        return (2 * ticks * 10**9 + scale) // (2 * scale) - wraps * HANDLER_INSTRUCTIONS
