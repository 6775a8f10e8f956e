# SPDX-License-Identifier: Apache-2.0
"""Where the instructions of a step go: counted rows of a firmware, summed by kernel and by layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinytrain import emulate
from tinytrain.emulate import Instructions, KernelCode
from tinytrain.errors import EmulationError
from tinytrain.planner.latency import Latency, latency

STEP = ("forward", "save", "loss", "backward", "update")  # the phases of a training step, in order


@dataclass(frozen=True)
class ProfiledRow:
    """One kernel call of a step: what it ran for, and what it cost.

    label: the kernel with its window and stride; layer: the layer of the model that it belongs to
    """

    kernel: str
    label: str
    node: str
    layer: str
    phase: str
    macs: int
    instructions: int


@dataclass
class Entry:
    """Rows of a step, summed. share: of all rows; phases: instructions by phase."""

    name: str
    calls: int = 0
    instructions: int = 0
    macs: int = 0
    share: float = 0.0
    phases: dict[str, int] = field(default_factory=dict)

    @property
    def per_mac(self) -> float | None:
        """Instructions per multiply-accumulate; None where there is none."""
        return self.instructions / self.macs if self.macs else None

    def add(self, row: ProfiledRow) -> None:
        self.calls += 1
        self.instructions += row.instructions
        self.macs += row.macs
        self.phases[row.phase] = self.phases.get(row.phase, 0) + row.instructions

    def as_dict(self) -> dict[str, Any]:
        per_mac = self.per_mac
        return {
            "name": self.name, "calls": self.calls, "instructions": self.instructions, "macs": self.macs,
            "instructions_per_mac": None if per_mac is None else round(per_mac, 4), "share": round(self.share, 6),
            "phases": self.phases,
        }  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Instructions of one sample on a board.

    inference, train_step: as a whole, the executor's loop included
    rows:     the kernel calls of a step, in order, each counted on its own
    code:     machine code of the linked kernels, by name
    latency:  an estimate, or None for a core without one
    """

    board: str
    core: str
    inference: int
    train_step: int
    rows: tuple[ProfiledRow, ...]
    code: Mapping[str, KernelCode]
    latency: Latency | None

    @property
    def kernels(self) -> list[Entry]:
        """By kernel and window, the most expensive first."""
        return sorted(self.sums(lambda row: row.label), key=lambda entry: -entry.instructions)

    @property
    def layers(self) -> list[Entry]:
        """By layer of the model: everything a step does for it, in order of execution."""
        return self.sums(lambda row: row.layer)

    @property
    def code_size(self) -> int:
        """Bytes of machine code of all kernels."""
        return sum(code.size for code in self.code.values())

    def sums(self, key: Callable[[ProfiledRow], str], phases: tuple[str, ...] = STEP) -> list[Entry]:
        """Rows of some phases by any key, in the order in which keys come up."""
        entries: dict[str, Entry] = {}
        for row in self.rows:
            if row.phase in phases:
                entries.setdefault(key(row), Entry(key(row))).add(row)
        total = sum(row.instructions for row in self.rows) or 1
        for entry in entries.values():
            entry.share = entry.instructions / total
        return list(entries.values())

    def as_dict(self) -> dict[str, Any]:
        """The stable JSON of docs/json.md."""
        code = {name: {"variant": each.variant, "bytes": each.size} for name, each in sorted(self.code.items())}
        return {
            "inference": self.inference,
            "train_step": self.train_step,
            "kernels": [entry.as_dict() for entry in self.kernels],
            "layers": [entry.as_dict() for entry in self.layers],
            "code": {"total": self.code_size, "kernels": code},
            "latency": self.latency.as_dict() if self.latency else None,
        }


def profile_of(folder: Path, counted: Instructions) -> Profile:
    """The counts of a firmware folder, with what its export.json says of each row. The folder has been built."""
    board, _ = emulate.board_of(folder)
    facts = json.loads((folder / "export.json").read_text())["rows"]
    if len(facts) != len(counted.rows):
        raise EmulationError(
            f"the firmware has {len(counted.rows)} rows, its export.json {len(facts)}", where=str(folder),
            why="the folder was changed after its export", fix="tinytrain export PLAN -o FOLDER",
        )  # fmt: skip
    rows = tuple(
        ProfiledRow(
            fact["kernel"], fact.get("label", fact["kernel"]), fact["node"], fact["origin"], fact["phase"],
            fact["macs"], count.instructions,
        )
        for fact, count in zip(facts, counted.rows, strict=True)
        if fact["phase"] in STEP
    )  # fmt: skip
    return Profile(
        board.name, board.core, counted.inference, counted.train_step, rows, emulate.kernel_code(folder),
        latency(board, counted.inference, counted.train_step),
    )  # fmt: skip


def profile_firmware(folder: Path, sample: np.ndarray, label: int, rate: float | None = None) -> Profile:
    """Build a firmware folder, and count one inference and one step on a sample."""
    return profile_of(folder, emulate.count_instructions(folder, sample, label, learning_rate=rate))
