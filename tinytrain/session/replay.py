# SPDX-License-Identifier: Apache-2.0
"""The board's commands carried out by the host's own runtime: every result must be the board's, to the bit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tinytrain.emulate import BoardReport, CommandStream, Pass, Window
from tinytrain.emulate.protocol import Operation
from tinytrain.host import Machine
from tinytrain.program import Program


@dataclass
class Replay:
    """What the host computed: passes window by window, the CRC at every report, logits."""

    passes: list[Pass] = field(default_factory=list)
    crcs: list[int] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)

    def difference(self, board: BoardReport) -> str | None:
        """The first thing in which a board's run differs from this one, in words; None if nothing does."""
        for number, (mine, theirs) in enumerate(zip(self.passes, board.passes, strict=True)):
            done = 0
            for ours, its in zip(mine.windows, theirs.windows, strict=True):
                if ours != its:
                    place = f"pass {number} ({mine.kind}), samples {done} to {done + ours.samples}"
                    return f"{place}: host {_window(ours)}, board {_window(its)}"
                done += ours.samples
        for number, (crc, marks) in enumerate(zip(self.crcs, board.marks, strict=True)):
            if crc != marks.parameters_crc32:
                return f"parameters at report {number}: host CRC {crc:08x}, board CRC {marks.parameters_crc32:08x}"
        for number, (host, other) in enumerate(zip(self.logits, board.logits, strict=True)):
            if not np.array_equal(host, other):
                return f"logits of test sample {number}: host {host.tolist()}, board {other.tolist()}"
        return None


def _window(window: Window) -> str:
    return f"loss {window.loss:.6f}, {window.correct} right"


class Stopped(Exception):
    """The caller no longer wants the result."""


def replay(
    program: Program,
    stream: CommandStream,
    samples: np.ndarray,
    *,
    progress_every: int,
    progress: Callable[[int], None] = lambda done: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replay:
    """Carry out a stream. progress gets the number of samples seen; `stop` is asked before each."""
    host = _Host(Machine(program), samples, progress_every)
    done = 0
    for operation, a, b in [*stream.records, (int(Operation.REPORT), 0, 0)]:  # a board's run ends with a report too
        if stop():
            raise Stopped
        host.carry_out(Operation(operation), a, b)
        if operation in (Operation.TRAIN, Operation.EVALUATE):
            done += 1
            progress(done)
    return host.result


class _Host:
    """harness.c in Python: one method per command."""

    def __init__(self, machine: Machine, samples: np.ndarray, window: int) -> None:
        self.machine, self.samples, self.window = machine, samples, window
        self.result = Replay()
        self._pass: Operation | None = None
        self._count = self._correct = self._loss = 0

    def carry_out(self, operation: Operation, a: int, b: int) -> None:
        if operation is Operation.RATE:
            (rate,) = struct.unpack("<f", struct.pack("<I", a))
            self.machine.set_learning_rate(rate, b)
        elif operation is Operation.SEED:
            self.machine.set_seed(a)
        elif operation is Operation.APPLY:
            self.machine.apply()
        elif operation in (Operation.TRAIN, Operation.EVALUATE):
            self._sample(operation, a, b)
        else:
            self._end_pass()
            if operation is Operation.LOGITS:
                self.result.logits.append(self.machine.infer(self.samples[a]).reshape(-1))
            elif operation is Operation.REPORT:
                self.result.crcs.append(self.machine.parameters_crc32())

    def _sample(self, operation: Operation, index: int, label: int) -> None:
        if self._pass is not operation:
            self._end_pass()
            self._pass = operation
            self.result.passes.append(Pass("train" if operation is Operation.TRAIN else "eval"))
        elif self._count == self.window:
            self._end_window()
        if operation is Operation.TRAIN:
            loss, predicted = self.machine.train_step(self.samples[index], label)
            self._loss += round(loss * 65536)
        else:
            predicted = self.machine.predict(self.samples[index])
        self._correct += predicted == label and self.machine.program.labels > 0
        self._count += 1

    def _end_window(self) -> None:
        loss = self._loss / 65536 / max(self._count, 1)
        self.result.passes[-1].windows.append(Window(self._count, self._correct, loss))
        self._count = self._correct = self._loss = 0

    def _end_pass(self) -> None:
        if self._pass is not None:
            self._end_window()
        self._pass = None
