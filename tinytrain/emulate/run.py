# SPDX-License-Identifier: Apache-2.0
"""Boots an exported firmware on its emulated board, feeds it, and reads its report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinytrain.boards import Board
from tinytrain.emulate import qemu
from tinytrain.emulate.build import build
from tinytrain.emulate.count import Counter, Instructions
from tinytrain.emulate.fault import explain_fault
from tinytrain.emulate.protocol import CommandStream, Line, parse_line, signed
from tinytrain.emulate.render import board_of
from tinytrain.errors import DataError, EmulationError

Q16 = 65536


@dataclass(frozen=True)
class Window:
    """What happened between two lines of progress. `loss` is the mean (training only), 1.0 = one nat."""

    samples: int
    correct: int
    loss: float


@dataclass
class Pass:
    """Consecutive training steps, or consecutive evaluations."""

    kind: str  # "train" or "eval"
    windows: list[Window] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(window.samples for window in self.windows)

    @property
    def correct(self) -> int:
        return sum(window.correct for window in self.windows)

    @property
    def accuracy(self) -> float:
        return self.correct / self.samples if self.samples else 0.0

    @property
    def loss(self) -> float:
        total = sum(window.loss * window.samples for window in self.windows)
        return total / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class Progress:
    """Given to the progress callback after every window."""

    kind: str
    number: int  # of the pass in the stream
    done: int
    total: int
    window: Window
    accuracy: float  # of the pass so far


@dataclass(frozen=True)
class Marks:
    """One @report: the CRC of all trained parameters and the high-water marks, in bytes, since the start."""

    parameters_crc32: int
    arena_used: int
    stack_used: int
    handler_stack_used: int


@dataclass(frozen=True)
class BoardReport:
    """What a run left. Everything is what the board said, nothing is the host's own reckoning."""

    board: str
    passes: tuple[Pass, ...]
    marks: tuple[Marks, ...]
    logits: tuple[np.ndarray, ...]  # int32 Q16, one array per LOGITS command
    instructions: Instructions | None
    seconds: float

    @property
    def final(self) -> Marks:
        """At the end of the run."""
        return self.marks[-1]


def run(
    folder: Path,
    stream: CommandStream,
    samples: np.ndarray,
    *,
    progress: Callable[[Progress], None] | None = None,
    progress_every: int = 16,
    quiet_limit: float = 600.0,
) -> BoardReport:
    """Build `folder`, boot it, and carry out `stream` over `samples` (int8, first axis the samples).

    A stream that counts instructions is emulated with a clock that follows them, which is slower: keep it short.
    quiet_limit: seconds without a line after which the board is taken to hang.
    """
    board, _ = board_of(folder)
    _check_samples(stream, samples)
    elf = build(folder).resolve()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tinytrain-") as name:
        directory = Path(name)
        (directory / "commands.bin").write_bytes(stream.encode(samples[0].nbytes, progress_every))
        (directory / "samples.bin").write_bytes(np.ascontiguousarray(samples).data)
        session = _Session(board, stream, elf, progress)
        with closing(qemu.lines(qemu.command(board, elf, stream.counts), directory, quiet_limit)) as printed:
            for text in printed:
                if (line := parse_line(text)) is not None:
                    session.take(line)
    if not session.ended:
        raise EmulationError("the board stopped before the end of its commands", where=str(elf))
    return BoardReport(
        board=board.name,
        passes=tuple(session.passes),
        marks=tuple(session.marks),
        logits=tuple(np.array(values, dtype=np.int32) for values in session.logits),
        instructions=session.counter.result(),
        seconds=time.monotonic() - started,
    )


def count_instructions(
    folder: Path, sample: np.ndarray, label: int, *, learning_rate: float | None = None, quiet_limit: float = 600.0
) -> Instructions:
    """Instructions of one inference and one training step on `sample`, whole and row by row."""
    stream = CommandStream()
    if learning_rate is not None:
        stream.learning_rate(learning_rate)
    report = run(folder, stream.count(0, label), sample[np.newaxis], quiet_limit=quiet_limit)
    if report.instructions is None:
        raise EmulationError("the board reported no instruction counts")
    return report.instructions


def _check_samples(stream: CommandStream, samples: np.ndarray) -> None:
    if samples.dtype != np.int8 or len(samples) == 0:
        raise DataError(f"a board takes int8 samples, not {len(samples)} of {samples.dtype}")
    if samples.nbytes >= 1 << 31:
        raise DataError(
            f"{samples.nbytes:,} B of samples", why="a board seeks in them with 32 bits", fix="fewer samples"
        )
    if stream.largest_index >= len(samples):
        raise DataError(f"the commands name sample {stream.largest_index}, and there are {len(samples)}")


class _Session:
    """Turns the board's lines into results, and its errors into ours."""

    def __init__(
        self, board: Board, stream: CommandStream, elf: Path, progress: Callable[[Progress], None] | None
    ) -> None:
        self._board, self._stream, self._elf, self._progress = board, stream, elf, progress
        self.passes: list[Pass] = []
        self.marks: list[Marks] = []
        self.logits: list[list[int]] = []
        self.counter = Counter(board)
        self.ended = False
        self._pass_is_open = False

    def take(self, line: Line) -> None:
        if line.kind in ("train", "eval"):
            self._window(line)
        elif line.kind == "report":
            self.marks.append(Marks(line["crc"], line["arena"], line["stack"], line["handler_stack"]))
        elif line.kind == "logit":
            if line["class"] == 0:
                self.logits.append([])
            self.logits[-1].append(signed(line["value"], 32))
        elif line.kind == "end":
            self.ended = True
        elif line.kind == "fault":
            raise explain_fault(line, self._board, self._elf)
        elif line.kind == "error":
            raise EmulationError(f"the firmware stopped: {line.text} ({line['value']:#x})", where=str(self._elf))
        else:
            self.counter.take(line)

    def _window(self, line: Line) -> None:
        if not self._pass_is_open:
            self.passes.append(Pass(line.kind))
        loss = signed(line.values.get("loss", 0), 64) / Q16 / max(line["count"], 1)
        window = Window(line["count"], line["correct"], loss)
        current = self.passes[-1]
        current.windows.append(window)
        self._pass_is_open = not line["last"]
        if self._progress is not None:
            number = len(self.passes) - 1
            total = self._stream.passes[number][1]
            self._progress(Progress(line.kind, number, current.samples, total, window, current.accuracy))
