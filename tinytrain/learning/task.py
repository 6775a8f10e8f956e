# SPDX-License-Identifier: Apache-2.0
"""What a training consists of: samples, a program and the settings; everything but the seed."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tinytrain.augment import Augment
from tinytrain.data import Dataset, InputSpec, check_data, drawn_samples, gather_samples
from tinytrain.errors import DataError
from tinytrain.graph import Graph
from tinytrain.host.prefix import FrozenPrefix, frozen_prefix
from tinytrain.memory import Layout, lay_out
from tinytrain.ops.training import ExponentStart
from tinytrain.planner.calibrate import STEPS, measure_exponents
from tinytrain.planner.make import with_outputs
from tinytrain.program import Program, Space, lower
from tinytrain.session.commands import spread
from tinytrain.session.schedule import Step, training_steps
from tinytrain.train import Optimizer, Scheme, training_graph

CALIBRATION_SEED = 0  # of the samples that initial exponents are measured on: as `tinytrain plan` does by default


@dataclass(frozen=True)
class Settings:
    """How to train.

    batch:      samples per update; lr: of the mean gradient of a batch
    evaluated:  test samples for accuracy, None for all; eval_every: epochs between two evaluations (the last one is
                always evaluated)
    cache:      bytes that results of the frozen prefix may take
    """

    epochs: int = 12
    batch: int = 8
    lr: float = 0.04
    schedule: str = "cosine"
    augment: Augment = field(default_factory=Augment)
    evaluated: int | None = None
    eval_every: int = 1
    cache: int = 4 << 30

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def steps(self, labels: np.ndarray, seed: int) -> list[Step]:
        """The steps of a run. Errors: DataError."""
        if self.eval_every < 1:
            raise DataError(f"an evaluation every {self.eval_every} epochs", fix="--eval-every 1 or more")
        return training_steps(
            labels, epochs=self.epochs, batch=self.batch, lr=self.lr, seed=seed, schedule=self.schedule,
            flip=self.augment.flip,
        )  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Quantized, as the model takes them: x int8 [N, ...], y int64 [N]."""

    x: np.ndarray
    y: np.ndarray

    @functools.cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.x.tobytes() + self.y.tobytes()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One scheme on one data set: what runs with different seeds share.

    forward:  the model's graph; scheme: as it is trained, with the number of classes and of accumulation settled
    program:  of the training graph under `exponents`, the initial gradient exponents
    """

    forward: Graph
    scheme: Scheme
    exponents: ExponentStart
    program: Program
    prefix: FrozenPrefix
    train: Samples
    test: Samples
    settings: Settings

    @property
    def zero_point(self) -> int:
        """Of the input."""
        return self.forward[self.forward.inputs[0]].zero_point

    @property
    def classes(self) -> int:
        return self.program.tensors[self.program.output].size

    @property
    def accumulates(self) -> bool:
        return self.scheme.accumulate

    def sram(self) -> dict[str, int]:
        """What persists and the arena, in bytes; stack and statics are a board's."""
        spaces = (Space.ARENA, Space.PARAMETERS, Space.MASTERS, Space.OPTIMIZER)
        sizes = {str(space): self.program.sizes[space] for space in spaces}
        return {**sizes, "total": sum(sizes.values())}

    @functools.cached_property
    def digest(self) -> str:
        """Changes with whatever changes a run's bits, but for the seed."""
        settings = replace(self.settings, cache=0)
        found = hashlib.sha256(repr((self.scheme, settings, sorted(self.exponents.items()))).encode())
        found.update((self.train.digest + self.test.digest).encode())
        found.update(repr([(row.kernel, row.node) for row in self.program.rows]).encode())
        for array in [*self.program.images.values(), *(constant.data for constant in self.program.constants)]:
            found.update(array.tobytes())
        return found.hexdigest()


def make_task(forward: Graph, data: Dataset, scheme: Scheme, settings: Settings) -> Task:
    """Settle the number of classes, quantize the samples, compile, and measure the initial exponents.

    Errors: DataError, SchemeError.
    """
    spec = InputSpec.of(forward)
    settings.augment.check(spec.shape)
    if scheme.loss.needs_target:
        raise DataError(
            "a scheme that is trained on given targets", why="data sets hold samples and labels",
            fix="train it in Python with Machine.train_step(sample, target=...)",
        )  # fmt: skip
    chosen = with_outputs(forward, scheme, data.class_count)
    chosen = chosen.but(accumulate=chosen.accumulate or settings.batch > 1)
    check_data(data, spec)
    tested = spread(len(data.x_test), settings.evaluated)
    train = Samples(gather_samples(data.x_train, np.arange(len(data.x_train)), spec), data.y_train)
    test = Samples(gather_samples(data.x_test, tested, spec), data.y_test[tested])
    settings.steps(train.y[:1], 0)  # what is wrong with them is said before the work
    exponents = calibrated(forward, chosen, data, spec)
    program, prefix = compiled(forward, chosen, exponents)
    return Task(forward, chosen, exponents, program, prefix, train, test, settings)


def calibrated(forward: Graph, scheme: Scheme, data: Dataset, spec: InputSpec) -> ExponentStart:
    """The initial exponents a plan with this scheme and data has."""
    graph = training_graph(forward, scheme.but(optimizer=Optimizer()))
    program = lower(graph, lay_out(graph))
    return measure_exponents(graph, program, *drawn_samples(data, spec, STEPS, CALIBRATION_SEED))


def compiled(forward: Graph, scheme: Scheme, exponents: ExponentStart) -> tuple[Program, FrozenPrefix]:
    graph = training_graph(forward, scheme, exponents)
    layout: Layout = lay_out(graph)
    return lower(graph, layout), frozen_prefix(graph, layout)
