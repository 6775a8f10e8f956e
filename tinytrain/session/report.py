# SPDX-License-Identifier: Apache-2.0
"""What a run found: typed, and as the stable JSON of docs/json.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinytrain.emulate import Instructions, Pass
from tinytrain.session.profile import Profile


@dataclass(frozen=True)
class EpochReport:
    """One pass over the training samples. loss and accuracy (None without labels) are those seen while training."""

    steps: int
    loss: float
    accuracy: float | None
    parameters_crc32: int


@dataclass(frozen=True)
class RunReport:
    """A training run on an emulated board, and what the host made of the same steps.

    accuracy_before, _after: share of `evaluated` test samples that were right; None if none was evaluated
    loss_first, loss_last:   mean loss of the first and the last steps (see docs/json.md); of cross-entropies in nats
    linked, arena_used, stack_used, handler_stack_used, planned: bytes of SRAM; flash: linked bytes of flash
    host_parameters_crc32:   None where the host did not repeat the run
    difference:              the first thing in which host and board differ, or None
    profile:                 where the instructions go, if that was asked for
    """

    board: str
    model: str
    steps: int
    batch: int
    learning_rate: float
    schedule: str
    seed: int
    evaluated: int
    accuracy_before: float | None
    accuracy_after: float | None
    loss_first: float
    loss_last: float
    epochs: tuple[EpochReport, ...]
    instructions: Instructions | None
    linked: int
    planned: int | None
    arena_used: int
    stack_used: int
    handler_stack_used: int
    flash: int
    parameters_crc32: int
    host_parameters_crc32: int | None
    difference: str | None
    seconds: float
    profile: Profile | None = None

    @property
    def identical(self) -> bool | None:
        """Whether host and board agree in every bit; None where only the board ran."""
        return None if self.host_parameters_crc32 is None else self.difference is None

    def as_dict(self) -> dict[str, Any]:
        counted = self.instructions
        return {
            "board": self.board,
            "model": self.model,
            "steps": self.steps,
            "batch": self.batch,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "seed": self.seed,
            "evaluated": self.evaluated,
            "accuracy": {"before": self.accuracy_before, "after": self.accuracy_after},
            "loss": {"first": self.loss_first, "last": self.loss_last},
            "epochs": [vars(epoch) for epoch in self.epochs],
            "instructions": {
                "inference": counted.inference if counted else None,
                "train_step": counted.train_step if counted else None,
                "apply": counted.apply if counted else None,
                "phases": counted.phases if counted else {},
            },
            "profile": self.profile.as_dict() if self.profile else None,
            "sram": {
                "linked": self.linked,
                "planned": self.planned,
                "arena_used": self.arena_used,
                "stack_used": self.stack_used,
                "handler_stack_used": self.handler_stack_used,
            },
            "flash": {"linked": self.flash},
            "parameters_crc32": self.parameters_crc32,
            "host_parameters_crc32": self.host_parameters_crc32,
            "identical": self.identical,
            "difference": self.difference,
            "seconds": round(self.seconds, 3),
        }


def end_losses(passes: list[Pass], least: int) -> tuple[float, float]:
    """Mean loss of the first steps and of the last ones: whole windows, `least` steps or a few more."""
    windows = [window for each in passes for window in each.windows]

    def mean(ordered: list[Any]) -> float:
        taken, total = 0, 0.0
        for window in ordered:
            taken, total = taken + window.samples, total + window.loss * window.samples
            if taken >= least:
                break
        return total / max(taken, 1)

    return mean(windows), mean(windows[::-1])
