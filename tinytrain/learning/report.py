# SPDX-License-Identifier: Apache-2.0
"""What training found: typed, and as the stable JSON of docs/json.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class FitEpoch:
    """One pass over the training samples.

    loss, train_accuracy: means over the epoch's steps, each measured before its update; no accuracy without labels
    accuracy:             share of the test samples that are right after it; None where it was not measured
    parameters_crc32:     of all trained parameters and masters after it; None of a float reference
    """

    loss: float
    train_accuracy: float | None
    accuracy: float | None
    parameters_crc32: int | None = None


@dataclass(frozen=True)
class SeedRun:
    """One training with one seed. before: test accuracy before the first step; seconds: of training alone."""

    seed: int
    before: float | None
    epochs: tuple[FitEpoch, ...]
    steps: int
    seconds: float

    @property
    def accuracy(self) -> float | None:
        return self.epochs[-1].accuracy

    def as_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "accuracy": self.accuracy, "before": self.before,
            "epochs": [asdict(epoch) for epoch in self.epochs], "steps": self.steps,
            "parameters_crc32": self.epochs[-1].parameters_crc32, "seconds": round(self.seconds, 3),
        }  # fmt: skip

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> SeedRun:
        epochs = tuple(FitEpoch(**epoch) for epoch in document["epochs"])
        return SeedRun(document["seed"], document["before"], epochs, document["steps"], document["seconds"])


@dataclass(frozen=True)
class FitReport:
    """Trainings of one scheme under several seeds.

    sram:       bytes of arena, parameters, masters and optimizer state, as a board would need them
    evaluated:  test samples behind every accuracy
    head_start: test accuracy after one epoch in which the classifier alone was trained, with the first seed
    cache:      bytes that the frozen prefix leaves per sample, and rows of the program that it saves, of all
    floating:   the same trainings in float, where asked for
    """

    model: str
    data: str
    scheme: Mapping[str, Any]
    settings: Mapping[str, Any]
    classes: int
    evaluated: int
    runs: tuple[SeedRun, ...]
    sram: Mapping[str, int]
    cache: Mapping[str, int]
    head_start: float | None = None
    floating: tuple[SeedRun, ...] = field(default=())

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds, after the last epoch."""
        return _mean([run.accuracy for run in self.runs])

    @property
    def difference(self) -> float | None:
        """Integer minus float accuracy, means over the seeds."""
        reference = _mean([run.accuracy for run in self.floating])
        return None if reference is None or self.accuracy is None else self.accuracy - reference

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model, "data": self.data, "classes": self.classes, "evaluated": self.evaluated,
            "accuracy": _spread([run.accuracy for run in self.runs]),
            "before": _mean([run.before for run in self.runs]),
            "head_start": self.head_start,
            "loss": [_mean(losses) for losses in zip(*([e.loss for e in run.epochs] for run in self.runs))],
            "steps_per_second": _rate(self.runs),
            "runs": [run.as_dict() for run in self.runs],
            "float": _float(self.floating),
            "difference": self.difference,
            "sram": dict(self.sram), "cache": dict(self.cache), "scheme": dict(self.scheme),
            "settings": dict(self.settings),
        }  # fmt: skip


def _float(runs: Sequence[SeedRun]) -> dict[str, Any] | None:
    if not runs:
        return None
    return {
        "accuracy": _spread([run.accuracy for run in runs]), "steps_per_second": _rate(runs),
        "runs": [run.as_dict() for run in runs],
    }  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard deviation of a sample (None of one value), and the values."""
    mean = _mean(values)
    if mean is None or len(values) < 2:
        return {"mean": mean, "std": None, "runs": list(values)}
    variance = sum((value - mean) ** 2 for value in values if value is not None) / (len(values) - 1)
    return {"mean": mean, "std": math.sqrt(variance), "runs": list(values)}


def _rate(runs: Sequence[SeedRun]) -> float | None:
    seconds = sum(run.seconds for run in runs)
    return round(sum(run.steps for run in runs) / seconds, 1) if seconds > 0 else None
