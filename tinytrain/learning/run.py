# SPDX-License-Identifier: Apache-2.0
"""One training on the host runtime: the steps of a board, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tinytrain.host import Machine
from tinytrain.host.prefix import PrefixCache
from tinytrain.learning.checkpoint import Checkpoint, State
from tinytrain.learning.report import FitEpoch, SeedRun
from tinytrain.learning.task import Task
from tinytrain.session.schedule import Step

PROGRESS_EVERY = 16  # steps


@dataclass(frozen=True)
class FitProgress:
    """Where a training is.

    seed, epoch: of what runs, the epoch from 1 on (0: before the first); stage: "train" or "evaluate"
    done, total: steps of the whole training, or test samples
    loss, train_accuracy: of the epoch so far; accuracy: of the latest evaluation; None where not yet known
    """

    seed: int
    stage: str
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float | None = None
    train_accuracy: float | None = None
    accuracy: float | None = None


Callback = Callable[[FitProgress], None]


class Run:
    """A training with one seed. Its results depend on the task and the seed alone, not on what is cached or resumed.

    cache: for all runs of one task; the frozen prefix does not know a seed
    """

    def __init__(self, task: Task, seed: int, cache: PrefixCache, checkpoint: Checkpoint | None = None) -> None:
        self.task, self.seed, self.cache, self.checkpoint = task, seed, cache, checkpoint
        self.steps = task.settings.steps(task.train.y, seed)
        self.machine = Machine(task.program)
        self.machine.set_seed(seed)
        self.state = (checkpoint.load(self.machine) if checkpoint else None) or State()

    def finish(self, progress: Callback) -> SeedRun:
        """Train what is left to be trained."""
        state, settings = self.state, self.task.settings
        if not state.epochs and state.before is None:
            state.before = self.evaluate(progress)
        for epoch, steps in groupby(self.steps[state.steps :], key=lambda step: step.epoch):
            started = time.perf_counter()
            loss, share = self._train(list(steps), progress)
            state.seconds += time.perf_counter() - started
            last = epoch + 1 == settings.epochs
            due = last or (epoch + 1) % settings.eval_every == 0
            accuracy = self.evaluate(progress) if due else None
            state.epochs.append(FitEpoch(loss, share, accuracy, self.machine.parameters_crc32()))
            if self.checkpoint:
                self.checkpoint.save(self.machine, state)
            self._report(progress, "train", state.steps, len(self.steps), loss, share, epoch + 1)
        return SeedRun(self.seed, state.before, tuple(state.epochs), len(self.steps), state.seconds)

    def evaluate(self, progress: Callback) -> float | None:
        """Share of the test samples that are right; None without test samples or labels."""
        test, right = self.task.test, 0
        if not self.task.program.labels or not len(test.y):
            return None
        for index in range(len(test.y)):
            first = self.cache.load(self.machine, ("test", index), lambda index=index: test.x[index])  # type: ignore[misc]
            right += self.machine.predicted(self.machine.forward(first)) == int(test.y[index])
            if index % PROGRESS_EVERY == 0:
                self._report(progress, "evaluate", index, len(test.y))
        self._report(progress, "evaluate", len(test.y), len(test.y))
        return right / len(test.y)

    def _train(self, steps: list[Step], progress: Callback) -> tuple[float, float | None]:
        """(mean loss, share of right predictions or None without labels) of an epoch."""
        machine, state, accumulates = self.machine, self.state, self.task.accumulates
        loss, right = 0.0, 0
        rate: tuple[float, int] | None = None
        for done, step in enumerate(steps, 1):
            if (step.update_rate, step.batch) != rate:
                rate = step.update_rate, step.batch
                machine.set_learning_rate(*rate)
            first = self._load(step, state.steps)
            machine.set_answer(step.label)
            step_loss, predicted = machine.step(first)
            if accumulates and step.ends_batch:
                machine.apply()
            loss, right = loss + step_loss, right + (predicted == step.label)
            state.steps += 1
            if done % PROGRESS_EVERY == 0:
                self._report(progress, "train", state.steps, len(self.steps), loss / done, right / done)
        return loss / len(steps), right / len(steps) if self.task.program.labels else None

    def _load(self, step: Step, number: int) -> int:
        """Put the sample of a step into the machine -> the first row to be run."""
        augment, train = self.task.settings.augment, self.task.train
        key = ("train", step.sample, step.flipped) if augment.fixed else None

        def sample() -> np.ndarray:
            return augment.apply(train.x[step.sample], self.task.zero_point, self.seed, number)

        return self.cache.load(self.machine, key, sample)

    def _report(
        self, progress: Callback, stage: str, done: int, total: int, loss: float | None = None,
        train_accuracy: float | None = None, epoch: int | None = None,
    ) -> None:  # fmt: skip
        state, epochs = self.state, self.task.settings.epochs
        seen = [state.before, *(each.accuracy for each in state.epochs)]
        latest = next((accuracy for accuracy in reversed(seen) if accuracy is not None), None)
        if epoch is None:
            epoch = len(state.epochs) + 1 if state.steps else 0
        progress(FitProgress(self.seed, stage, epoch, epochs, done, total, loss, train_accuracy, latest))
