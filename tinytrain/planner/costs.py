# SPDX-License-Identifier: Apache-2.0
"""Instructions of a step without emulating one: a small linear model per kernel and core.

costs.json holds the coefficients, fitted to counts of emulated boards (`make bench BENCH=--fit`). A kernel's call costs
a non-negative sum of its features: what it multiplies, reads and writes.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytrain.graph import Phase
from tinytrain.program import Program, Row

PATH = Path(__file__).with_name("costs.json")
STEP = (Phase.FORWARD, Phase.SAVE, Phase.LOSS, Phase.BACKWARD, Phase.UPDATE)
LANES = 16  # elements of a vector register, where there is one
ANY = "*"  # any kernel


@dataclass(frozen=True)
class Estimate:
    """Instructions of an inference and of a training step. known: the share of them that fitted kernels account for."""

    inference: int
    train_step: int
    known: float


def features(row: Row) -> dict[str, float]:
    """What a kernel call's cost may grow with.

    mac, read, write: multiply-accumulates, elements read from the arena, elements written
    weight: weights, where they are read once for all pixels; vector: multiply-accumulates in whole vectors of channels
    narrow: multiply-accumulates, as far as the kernel's scratch is less than it has use for
    """
    found = {"call": 1.0, "mac": float(row.macs), "read": float(row.reads), "write": float(row.writes)}
    window = row.args.get("window")
    if window and row.macs:
        found["weight"] = row.macs / (window["y_height"] * window["y_width"])
        channels = row.args["x_channels"]
        found["vector"] = row.macs / channels * math.ceil(channels / LANES)
        found["narrow"] = row.macs * (1 - row.room)
    return found


@dataclass(frozen=True)
class CostModel:
    """Of one core. kernels: coefficients by label, by kernel, and for ANY; row: of the executor's loop, per call."""

    row: float
    kernels: Mapping[str, Mapping[str, float]]

    def instructions(self, row: Row) -> float:
        """Of one kernel call."""
        terms = next(self.kernels[key] for key in (row.label, row.kernel, ANY) if key in self.kernels)
        given = features(row)
        return self.row + sum(coefficient * given.get(name, 0.0) for name, coefficient in terms.items())

    def estimate(self, program: Program) -> Estimate:
        step = inference = known = 0.0
        for row in program.rows:
            if row.phase in STEP:
                spent = self.instructions(row)
                step += spent
                inference += spent if row.phase is Phase.FORWARD else 0.0
                known += spent if row.kernel in self.kernels else 0.0
        return Estimate(round(inference), round(step), known / step if step else 1.0)


@functools.cache
def models() -> dict[str, CostModel]:
    """By core."""
    return read(json.loads(PATH.read_text()))


def read(document: Mapping[str, Any]) -> dict[str, CostModel]:
    """The models in costs.json."""
    return {core: CostModel(entry["row"], entry["kernels"]) for core, entry in document["cores"].items()}


def estimate(program: Program, core: str) -> Estimate | None:
    """Instructions of a program on a core; None for a core that nobody has fitted."""
    model = models().get(core)
    return model.estimate(program) if model else None
