# SPDX-License-Identifier: Apache-2.0
"""The steps of a run: which sample when, at which learning rate, and where a batch ends.

Everything is worked out on the host before the board starts; a board only gets samples, labels and rates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinytrain.augment import mirrored
from tinytrain.errors import DataError
from tinytrain.ops.schedule import Schedule

SCHEDULES = ("cosine", "constant", "step")
WARM_UP = 0.05  # share of all parameter updates over which "cosine" and "step" climb to the full rate
STEPS = 3  # parts of a run with rates of their own in "step", each a tenth of the one before


@dataclass(frozen=True)
class Step:
    """One training step.

    sample:    index into the training samples
    rate:      learning rate of this sample's gradient, a float32: that of the batch divided by the batch's size
    update_rate, batch: learning rate of the update the gradient goes into, and how many samples that has
    ends_batch: whether accumulated gradients are applied after it
    """

    sample: int
    label: int
    rate: float
    epoch: int
    ends_batch: bool
    flipped: bool = False
    update_rate: float = 0.0
    batch: int = 1


def training_steps(
    labels: np.ndarray,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch: int = 1,
    lr: float = 0.005,
    seed: int = 0,
    schedule: str = "cosine",
    flip: bool = False,
) -> list[Step]:
    """`epochs` passes over the samples, each in a new order, or `steps` steps; with both, whichever ends first.

    The gradient of a batch is the mean over its samples. flip: mirror every other sample, at random (augment.py).
    """
    _check(epochs, steps, batch, lr, schedule)
    whole = (epochs or math.ceil((steps or 0) / len(labels))) * len(labels)
    total = whole if steps is None else min(whole, steps)
    updates = math.ceil(total / batch)
    flips = mirrored(seed, total) & flip
    planned = schedule_of(schedule, lr, updates)
    made = []
    for index, (epoch, sample) in enumerate(_draw(len(labels), total, seed)):
        update = index // batch
        size = min(batch, total - update * batch)
        rate = planned.at(update)
        ends = index % batch == batch - 1 or index == total - 1
        share = rate.divided(size).to_float()
        made.append(Step(sample, int(labels[sample]), share, epoch, ends, bool(flips[index]), rate.to_float(), size))
    return made


def _check(epochs: int | None, steps: int | None, batch: int, lr: float, schedule: str) -> None:
    for name, value in (("epochs", epochs), ("steps", steps), ("batch", batch)):
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}", fix=f"--{name} 1 or more")
    if epochs is None and steps is None:
        raise DataError("a run needs a number of epochs or of steps", fix="--epochs 3")
    if not math.isfinite(lr) or not 0 <= lr <= 3e38:
        raise DataError(f"a learning rate of {lr}", why="it must be finite and not negative", fix="--lr 0.005")
    if schedule not in SCHEDULES:
        raise DataError(f"there is no schedule '{schedule}'", fix=f"--schedule {' or '.join(SCHEDULES)}")


def _draw(count: int, total: int, seed: int) -> Iterator[tuple[int, int]]:
    """(epoch, sample), `total` times."""
    rng = np.random.default_rng(seed)
    for start in range(0, total, count):
        for sample in rng.permutation(count)[: total - start]:
            yield start // count, int(sample)


def schedule_of(kind: str, lr: float, updates: int) -> Schedule:
    """The rates of a run of so many parameter updates: "cosine" and "step" begin with a straight climb."""
    warm = math.ceil(updates * WARM_UP) if updates > 1 and kind != "constant" else 0
    return Schedule(kind, lr, warm, updates, period=max(1, math.ceil((updates - warm) / STEPS)))
