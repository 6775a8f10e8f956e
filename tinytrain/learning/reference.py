# SPDX-License-Identifier: Apache-2.0
"""The float reference of a training: the same network, samples, order, augmentation, rates and batches, in float32.

Weights are the real values of the model's integers, activations are real and held within their quantized range, the
scheme's parameters alone change, by plain gradient descent on real weights. Needs torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.floating import TorchModel
from tinytrain.floating.torch import torch_module
from tinytrain.learning.report import FitEpoch, SeedRun
from tinytrain.learning.run import Callback, FitProgress
from tinytrain.learning.task import Task
from tinytrain.session.schedule import Step
from tinytrain.train import Loss, Optimizer

CHUNK = 32  # samples whose frozen part or whose logits are computed at once


def check_reference(task: Task) -> None:
    """SchemeError where a scheme has no float reference; ToolMissing without torch."""
    torch_module()
    optimizer, loss = task.scheme.optimizer, task.scheme.loss
    if optimizer != Optimizer() or loss.kind != "cross_entropy":
        raise SchemeError(
            f"there is no float reference of the optimizer '{optimizer.kind}' and the loss '{loss.kind}'",
            why="it is plain stochastic gradient descent on a cross-entropy", fix="leave --float-reference out",
        )  # fmt: skip


class FrozenParts:
    """What the trained part of the model reads, sample by sample: computed once where samples come again.

    It does not know a seed: all references of one task may share it.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.model = task, TorchModel(task.forward, task.scheme)
        self.torch = torch_module()
        self._kept: dict[str, dict[str, Any]] = {}
        self.room = task.settings.cache

    def test(self, start: int, end: int) -> Mapping[str, Any]:
        """Of test samples start .. end - 1."""
        kept = self._whole("test", self.task.test.x)
        if kept is None:
            return self.model.prefix(self.task.test.x[start:end])
        return {name: value[start:end] for name, value in kept.items()}

    def train(self, steps: list[Step], seed: int, first: int) -> Mapping[str, Any]:
        """Of the samples of some steps of a seed's training, of which the first has this number."""
        settings, x = self.task.settings, self.task.train.x
        if settings.augment.fixed:
            plain = self._whole("plain", x)
            mirrored = self._whole("mirrored", np.flip(x, 2)) if settings.augment.flip else plain
            if plain is not None and mirrored is not None:
                chosen = [(mirrored if step.flipped else plain, step.sample) for step in steps]
                return {name: self.torch.stack([kept[name][i] for kept, i in chosen]) for name in plain}
        batch = [
            settings.augment.apply(x[step.sample], self.task.zero_point, seed, first + index)
            for index, step in enumerate(steps)
        ]
        return self.model.prefix(np.stack(batch))

    def _whole(self, key: str, samples: np.ndarray) -> dict[str, Any] | None:
        """Of all samples at once; None where memory does not suffice."""
        if key not in self._kept and len(samples):
            one = sum(value[0].nbytes for value in self.model.prefix(samples[:1]).values())
            if one * len(samples) > self.room:
                return None
            self.room -= one * len(samples)
            parts = [self.model.prefix(samples[start : start + CHUNK]) for start in range(0, len(samples), CHUNK)]
            self._kept[key] = {name: self.torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._kept.get(key)


def run_reference(task: Task, seed: int, parts: FrozenParts, progress: Callback) -> SeedRun:
    """Train in float what `Run` trains in integers. Errors: SchemeError, ToolMissing."""
    check_reference(task)
    model = TorchModel(task.forward, task.scheme)
    settings = task.settings
    steps = settings.steps(task.train.y, seed)
    before, seconds, done = accuracy_of(task, model, parts), 0.0, 0
    epochs: list[FitEpoch] = []
    for epoch, group in groupby(steps, key=lambda step: step.epoch):
        started, losses, right, seen = time.perf_counter(), 0.0, 0, 0
        for batch in batches(group):
            loss, hits = descend(model, parts.train(batch, seed, done), batch, task.scheme.loss)
            losses, right, done = losses + loss, right + hits, done + len(batch)
            seen += len(batch)
            latest = epochs[-1].accuracy if epochs else before
            progress(FitProgress(
                seed, "float", epoch + 1, settings.epochs, done, len(steps), losses / seen, right / seen, latest
            ))  # fmt: skip
        seconds += time.perf_counter() - started
        due = epoch + 1 == settings.epochs or (epoch + 1) % settings.eval_every == 0
        accuracy = accuracy_of(task, model, parts) if due else None
        epochs.append(FitEpoch(losses / seen, right / seen, accuracy))
    return SeedRun(seed, before, tuple(epochs), len(steps), seconds)


def batches(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """The steps of an epoch, cut where parameters change; what is left at its end goes on in the next epoch."""
    batch: list[Step] = []
    for step in steps:
        batch.append(step)
        if step.ends_batch:
            yield batch
            batch = []
    if batch:
        yield batch


def descend(model: TorchModel, known: Mapping[str, Any], batch: list[Step], loss: Loss) -> tuple[float, int]:
    """Add the gradients of some steps, and change the parameters where a batch ends -> (sum of losses, right ones)."""
    torch = torch_module()
    labels = torch.tensor([step.label for step in batch])
    logits = model.forward_from(known)
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=loss.label_smoothing)
    if loss.class_weights is not None:
        each = each * torch.tensor(loss.class_weights, dtype=each.dtype)[labels]
    # a step's rate is its batch's, divided by the batch's size
    (each * torch.tensor([step.rate for step in batch], dtype=each.dtype)).sum().backward()
    if batch[-1].ends_batch:
        model.mask_gradients()
        with torch.no_grad():
            for value in model.trained():
                value -= value.grad
                value.grad = None
    return float(each.detach().sum()), int((logits.argmax(1) == labels).sum())


def accuracy_of(task: Task, model: TorchModel, parts: FrozenParts) -> float | None:
    """Share of the test samples that are right; None if there are none."""
    labels, right = task.test.y, 0
    with torch_module().no_grad():
        for start in range(0, len(labels), CHUNK):
            end = min(start + CHUNK, len(labels))
            predicted = model.forward_from(parts.test(start, end)).argmax(1).numpy()
            right += int((predicted == labels[start:end]).sum())
    return right / len(labels) if len(labels) else None
