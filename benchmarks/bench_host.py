# SPDX-License-Identifier: Apache-2.0
"""Steps per second of this machine on one core, beside PyTorch's float32 on the same network and scheme, in one run."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from host_speed import random_samples, timed
from works import CLASSES, MCUNET, RATE, published

from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.program import lower
from tinytrain.train import Scheme, training_graph

ROUNDS = 7  # every contender has a short run in each; the best counts, so that other work on the machine matters little
BATCH = 16


@dataclass(frozen=True)
class Rate:
    """Samples per second of processor time. batch: samples per update of the parameters."""

    who: str
    batch: int
    per_second: float


@dataclass(frozen=True)
class HostReport:
    """Rates of training, and why PyTorch has none where it has none."""

    rates: tuple[Rate, ...]
    processor: str
    torch: str | None
    skipped: str | None

    def of(self, who: str, batch: int) -> float | None:
        return next((rate.per_second for rate in self.rates if (rate.who, rate.batch) == (who, batch)), None)

    @property
    def ratio(self) -> float | None:
        """Ours over PyTorch's at batch 1."""
        ours, theirs = self.of("tinytrain", 1), self.of("PyTorch", 1)
        return ours / theirs if ours and theirs else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio_at_batch_1": self.ratio}


def measure(seconds: float) -> HostReport:
    """seconds: of one short run."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    graph = load_model(MCUNET.path)
    scheme = published(graph).but(classes=CLASSES)
    contenders = {
        ("tinytrain", 1): (our_step(graph, scheme), 1),
        ("tinytrain", BATCH): (our_step(graph, scheme.but(accumulate=True), BATCH), 1),
    }
    version, skipped = None, "torch is not installed (TORCH=1 make bench)"
    if importlib.util.find_spec("torch") is not None:
        from torch_peer import training_step

        version, skipped = importlib.import_module("torch").__version__, None
        for batch in (1, BATCH):
            contenders["PyTorch", batch] = training_step(graph, scheme, batch, RATE), batch
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for key, (step, samples) in contenders.items():
            best[key] = min(best[key], timed(step, seconds) / samples)
    rates = tuple(Rate(who, batch, 1 / spent) for (who, batch), spent in best.items())
    return HostReport(rates, processor(), version, skipped)


def our_step(graph: Graph, scheme: Scheme, batch: int = 1) -> Callable[[int], object]:
    """One sample's step; with a batch, the update at its end."""
    training = training_graph(graph, scheme)
    machine = Machine(lower(training, lay_out(training)))
    machine.set_learning_rate(RATE, batch)
    samples = random_samples(machine)

    def step(index: int) -> None:
        machine.train_step(samples[index % len(samples)], index % CLASSES)
        if batch > 1 and index % batch == batch - 1:
            machine.apply()

    return step


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
