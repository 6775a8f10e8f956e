# SPDX-License-Identifier: Apache-2.0
"""The host's side of the harness protocol. The board's side, and the description, is boards/common/harness.c."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from tinytrain.errors import EmulationError


class Operation(IntEnum):
    END = 0
    BEGIN = 1
    RATE = 2
    SEED = 3
    TRAIN = 4
    APPLY = 5
    EVALUATE = 6
    LOGITS = 7
    COUNT = 8
    REPORT = 9


_PASSES = {Operation.TRAIN: "train", Operation.EVALUATE: "eval"}


@dataclass
class CommandStream:
    """What the board is told to do, in order. Samples are named by their index in the array given to `run`."""

    records: list[tuple[int, int, int]] = field(default_factory=list)
    passes: list[tuple[str, int]] = field(default_factory=list)  # ("train" or "eval", samples), in order
    largest_index: int = -1
    _open: Operation | None = None

    def learning_rate(self, value: float, samples: int = 1) -> CommandStream:
        """From here on, of updates by the mean over `samples`. Rounded to float32, whose bits are sent."""
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        return self._add(Operation.RATE, bits, samples)

    def seed(self, value: int) -> CommandStream:
        return self._add(Operation.SEED, value & 0xFFFFFFFF)

    def train(self, index: int, label: int) -> CommandStream:
        """One training step. Consecutive steps form a pass; rates, seeds and `apply` do not end it."""
        return self._sample(Operation.TRAIN, index, label)

    def apply(self) -> CommandStream:
        """Apply the gradients accumulated so far."""
        return self._add(Operation.APPLY)

    def evaluate(self, index: int, label: int) -> CommandStream:
        """One inference, counted as correct when it predicts `label`. Consecutive ones form a pass."""
        return self._sample(Operation.EVALUATE, index, label)

    def logits(self, index: int) -> CommandStream:
        return self._sample(Operation.LOGITS, index, 0)

    def count(self, index: int, label: int) -> CommandStream:
        """Count the instructions of an inference and of a step. Takes two training steps to do so."""
        return self._sample(Operation.COUNT, index, label)

    def report(self) -> CommandStream:
        """Ends a pass, and asks for the parameters' CRC and the high-water marks."""
        return self._add(Operation.REPORT)

    @property
    def counts(self) -> bool:
        """Whether instructions are to be counted."""
        return any(operation == Operation.COUNT for operation, _, _ in self.records)

    def encode(self, sample_bytes: int, progress_every: int) -> bytes:
        """The bytes of commands.bin. Every run ends with a report."""
        begin, end = (Operation.BEGIN, sample_bytes, progress_every), [(Operation.REPORT, 0, 0), (Operation.END, 0, 0)]
        records = [begin, *self.records, *end]
        return np.array(records, dtype="<u4").tobytes()

    def _sample(self, operation: Operation, index: int, label: int) -> CommandStream:
        self.largest_index = max(self.largest_index, index)
        if (name := _PASSES.get(operation)) is not None:
            if operation != self._open:
                self.passes.append((name, 0))
            self.passes[-1] = (name, self.passes[-1][1] + 1)
        return self._add(operation, index, label & 0xFFFFFFFF)

    def _add(self, operation: Operation, a: int = 0, b: int = 0) -> CommandStream:
        if operation not in (Operation.RATE, Operation.SEED, Operation.APPLY):
            self._open = operation
        self.records.append((int(operation), int(a), int(b)))
        return self


@dataclass(frozen=True)
class Line:
    """One line from the board: `@kind name=value name=value`."""

    kind: str
    text: str  # the words that are not name=value, for @error
    values: dict[str, int]

    def __getitem__(self, name: str) -> int:
        if name not in self.values:
            raise EmulationError(f"the board's '@{self.kind}' line has no '{name}'")
        return self.values[name]


def parse_line(line: str) -> Line | None:
    """None for what is not a line of the protocol (a firmware may print what it likes)."""
    if not line.startswith("@"):
        return None
    kind, *words = line[1:].split()
    try:
        values = {name: int(value, 16) for name, _, value in (word.partition("=") for word in words if "=" in word)}
    except ValueError as error:
        raise EmulationError(f"the board printed a line that cannot be read: {line!r}") from error
    return Line(kind, " ".join(word for word in words if "=" not in word), values)


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
