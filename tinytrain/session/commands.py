# SPDX-License-Identifier: Apache-2.0
"""What a run sends to a board: one command stream, and the samples it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinytrain.data import Dataset, InputSpec, gather_samples
from tinytrain.emulate import CommandStream
from tinytrain.errors import DataError
from tinytrain.session.schedule import Step

LOGIT_SAMPLES = 4  # test samples whose logits are compared bit for bit at the end


@dataclass(frozen=True)
class Session:
    """samples: int8 [N, ...], each once; the stream names them by index. evaluated: test samples per evaluation."""

    stream: CommandStream
    samples: np.ndarray
    evaluated: int
    epochs: int


def prepare(
    data: Dataset, input_spec: InputSpec, steps: Sequence[Step], *, eval_count: int | None, seed: int, accumulates: bool
) -> Session:
    """Evaluate, train epoch by epoch with a report after each, evaluate again, and look at some logits."""
    if any(step.flipped for step in steps) and not input_spec.is_image:
        raise DataError(f"samples of {input_spec.text} cannot be mirrored", fix="leave --flip out")
    tested = spread(len(data.x_test), eval_count)
    looked_at = tested if len(tested) else spread(len(data.x_test), LOGIT_SAMPLES)
    samples, index_of = _samples(data, input_spec, steps, looked_at)
    tests = [(index_of["test", int(i)], int(data.y_test[i])) for i in tested]
    stream = CommandStream().seed(seed)
    for index, label in tests:
        stream.evaluate(index, label)
    rate: tuple[float, int] | None = None
    for number, step in enumerate(steps):
        if (step.update_rate, step.batch) != rate:
            rate = step.update_rate, step.batch
            stream.learning_rate(*rate)
        stream.train(index_of["flipped" if step.flipped else "train", step.sample], step.label)
        if accumulates and step.ends_batch:
            stream.apply()
        if number + 1 == len(steps) or steps[number + 1].epoch != step.epoch:
            stream.report()
    for index, label in tests:
        stream.evaluate(index, label)
    for i in looked_at[:LOGIT_SAMPLES]:
        stream.logits(index_of["test", int(i)])
    return Session(stream, samples, len(tests), steps[-1].epoch + 1)


def spread(available: int, wanted: int | None) -> np.ndarray:
    """`wanted` indices evenly over all test samples, so that data sorted by class is drawn from every class."""
    if wanted is not None and wanted < 0:
        raise DataError(f"{wanted} test samples", fix="--eval 0 or more")
    count = available if wanted is None else min(wanted, available)
    return np.arange(count) * available // max(count, 1)


def _samples(
    data: Dataset, input_spec: InputSpec, steps: Sequence[Step], tested: np.ndarray
) -> tuple[np.ndarray, dict[tuple[str, int], int]]:
    """Every sample that is used, quantized once, and where each is."""
    wanted = {
        "train": sorted({step.sample for step in steps if not step.flipped}),
        "flipped": sorted({step.sample for step in steps if step.flipped}),
        "test": [int(i) for i in tested],
    }
    samples = np.empty((sum(map(len, wanted.values())), *input_spec.shape), np.int8)
    index_of: dict[tuple[str, int], int] = {}
    for kind, indices in wanted.items():
        start = len(index_of)
        source = data.x_test if kind == "test" else data.x_train
        gathered = gather_samples(source, np.array(indices, np.int64), input_spec, flip=kind == "flipped")
        samples[start : start + len(indices)] = gathered
        index_of.update({(kind, index): start + i for i, index in enumerate(indices)})
    return samples, index_of
