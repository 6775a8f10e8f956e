# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of kernels runs: models with a scheme and a sample, counted on emulated boards."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, SHARED

from tinytrain.boards import Board, Memory, load
from tinytrain.data import InputSpec, gather_samples, load_data
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.planner import Plan, export_plan, make_plan
from tinytrain.planner.make import Samples
from tinytrain.program import Program
from tinytrain.session import Profile, profile_firmware
from tinytrain.train import Scheme, all_weights, load_scheme

DATA = ROOT / "examples" / "data"
CLASSES = 10
RATE = 0.003
STACK = 8192
ROOMY = 16 << 20
PLANNED_FOR = "mps2-an500"  # a program does not depend on the board; this one has room


@dataclass(frozen=True)
class Work:
    """A model, what of it trains, and the sample that is counted.

    shared: the model is one of the shared models beside the checkout
    """

    name: str
    title: str
    model: str
    scheme: Callable[[Graph], Scheme]
    boards: tuple[str, ...]
    trains: bool = True
    shared: bool = True

    @property
    def path(self) -> Path:
        return SHARED / "models" / self.model if self.shared else DATA / self.model

    @property
    def missing(self) -> str | None:
        """Why it cannot be run, or None."""
        return None if self.path.is_file() else f"{self.path.name} is not in the shared models beside the checkout"

    @functools.cached_property
    def samples(self) -> Samples:
        if not self.shared:
            return _pets(self.path)
        tensor = (graph := load_model(self.path))[graph.inputs[0]]
        x = np.random.default_rng(0).integers(-128, 128, (2, *tensor.shape)).astype(np.int8)
        return Samples(x, np.array([0, 1]), graph[graph.outputs[0]].size)

    @functools.cached_property
    def plan(self) -> Plan:
        return make_plan(self.path, roomy(PLANNED_FOR), samples=self.samples, scheme=self.scheme)

    @functools.cached_property
    def program(self) -> Program:
        return self.plan.program()

    @functools.cached_property
    def counts(self) -> dict[str, Profile]:
        """What was counted so far, by board."""
        return {}

    def profile(self, board: str) -> Profile:
        """Build, run, count; once per board."""
        if board not in self.counts:
            print(f"counting {self.title} on {board}", file=sys.stderr, flush=True)
            self.counts[board] = self._count(board)
        return self.counts[board]

    def _count(self, board: str) -> Profile:
        plan = self.plan.but(board=roomy(board), sram=replace(self.plan.sram, stack=STACK))
        with tempfile.TemporaryDirectory() as name:
            folder = export_plan(plan, Path(name) / "firmware")
            return profile_firmware(folder, self.samples.x[0], int(self.samples.y[0]), RATE)


def roomy(name: str) -> Board:
    """A board with memory for anything: counts do not depend on it."""
    board = load(name)
    return replace(board, sram=Memory(board.sram.origin, max(board.sram.size, 4 << 20)))


def _pets(model: Path) -> Samples:
    spec = InputSpec.of(load_model(model))
    data = load_data(DATA / "pets3.npz", spec)
    return Samples(gather_samples(data.x_train, np.arange(4), spec), data.y_train[:4], CLASSES)


def published(graph: Graph) -> Scheme:
    return load_scheme(DATA / "sparse_update_schemes.json", graph, "mcunet-5fps/49kb")


def with_all(**fields: Any) -> Callable[[Graph], Scheme]:
    """Every weight, with some fields of the scheme replaced."""
    return lambda graph: all_weights(graph).but(**fields)


def head_only(graph: Graph) -> Scheme:
    return Scheme()


FIVE = ("mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547")
M7 = ("mps2-an500",)
MCUNET = Work("mcunet", "MCUNet-5FPS, 49 KB scheme, 10 classes, 128x128", "mcunet-5fps.onnx", published, FIVE,
              shared=False)  # fmt: skip
WORKS = (
    MCUNET,
    Work("vww", "mcunet_vww_int8", "tinyengine/mcunet_vww_int8.tflite", head_only, M7, trains=False),
    Work("mcunetv2", "mcunetv2_large_int8", "tinyengine/mcunetv2_large_int8.tflite", head_only, M7, trains=False),
)  # fmt: skip
