# SPDX-License-Identifier: Apache-2.0
"""The float reference trains the same elements by the same steps, and ends where the integers end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.learning.conftest import SCHEME
from tinytrain import api
from tinytrain.augment import Augment
from tinytrain.errors import SchemeError
from tinytrain.learning import FitProgress
from tinytrain.learning.reference import FrozenParts, batches, check_reference, descend, run_reference
from tinytrain.learning.task import Task
from tinytrain.train import Loss, Optimizer

torch = pytest.importorskip("torch")


def model_of(task: Task):  # type: ignore[no-untyped-def]
    from tinytrain.floating import TorchModel

    return TorchModel(task.forward, task.scheme)


def test_a_batch_descends_along_the_mean_gradient_of_its_images(task: Task) -> None:
    steps = task.settings.steps(task.train.y, 0)[:12]
    model, fresh = model_of(task), model_of(task)
    parts = FrozenParts(task)
    for batch in batches(steps):
        assert len(batch) == 4 and batch[-1].ends_batch
        descend(model, parts.train(batch, 0, 0), batch, task.scheme.loss)
        x = np.stack([task.train.x[s.sample][:, ::-1] if s.flipped else task.train.x[s.sample] for s in batch])
        gradients = fresh.gradients(x, np.array([step.label for step in batch]))
        for name, gradient in gradients.items():
            with torch.no_grad():
                fresh.parameters[name] -= 4 * batch[0].rate * torch.tensor(gradient)
            np.testing.assert_allclose(
                model.parameters[name].detach(), fresh.parameters[name].detach(), rtol=1e-4, atol=1e-6, err_msg=name
            )


def test_what_the_scheme_leaves_out_keeps_its_value(task: Task) -> None:
    model, before = model_of(task), model_of(task)
    parts = FrozenParts(task)
    for batch in batches(task.settings.steps(task.train.y, 0)):
        descend(model, parts.train(batch, 0, 0), batch, task.scheme.loss)
    changed = {name for name, value in model.parameters.items() if not torch.equal(value, before.parameters[name])}
    assert changed == set(model.masks)
    weight = next(name for name in changed if model.parameters[name].ndim == 4)
    same = model.parameters[weight] == before.parameters[weight]
    assert same[model.masks[weight] == 0].all() and not same[model.masks[weight] == 1].all()


def test_a_batch_across_two_epochs_is_one_update(task: Task) -> None:
    task = replace(task, settings=replace(task.settings, batch=7))
    steps = task.settings.steps(task.train.y, 0)
    first = list(batches(step for step in steps if step.epoch == 0))
    assert [len(batch) for batch in first] == [7] * 6 + [6] and not first[-1][-1].ends_batch
    model = model_of(task)
    parts = FrozenParts(task)
    before = {name: value.detach().clone() for name, value in model.parameters.items()}
    descend(model, parts.train(first[-1], 0, 42), first[-1], task.scheme.loss)
    assert all(torch.equal(value, before[name]) for name, value in model.parameters.items())
    rest = next(batches(step for step in steps if step.epoch == 1))
    descend(model, parts.train(rest, 0, 48), rest, task.scheme.loss)
    assert len(rest) == 1 and not all(torch.equal(value, before[name]) for name, value in model.parameters.items())


@pytest.mark.parametrize("augment", [Augment(flip=True), Augment(flip=True, shift=1)])
def test_what_is_kept_changes_nothing(task: Task, augment: Augment) -> None:
    task = replace(task, settings=replace(task.settings, augment=augment))
    less = replace(task, settings=replace(task.settings, cache=0))
    runs = [run_reference(one, 0, FrozenParts(one), lambda moment: None) for one in (task, less)]
    np.testing.assert_allclose([e.loss for e in runs[0].epochs], [e.loss for e in runs[1].epochs], rtol=1e-4)


def test_integers_learn_what_float_learns(small_model: Path, small_data: Path) -> None:
    seen: list[FitProgress] = []
    report = api.fit(
        small_model, small_data, scheme=SCHEME, epochs=6, batch=4, lr=0.1, augment="flip", seeds=2, head_start=False,
        float_reference=True, progress=seen.append,
    )  # fmt: skip
    document = report.as_dict()
    assert {moment.seed for moment in seen if moment.stage == "float"} == {0, 1}
    assert document["difference"] == pytest.approx(document["accuracy"]["mean"] - document["float"]["accuracy"]["mean"])
    for mine, other in zip(report.runs, report.floating, strict=True):
        assert (mine.seed, mine.steps) == (other.seed, other.steps)
        for ours, theirs in zip(mine.epochs, other.epochs, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=0.05)


def test_references_run_in_processes_too(small_model: Path, small_data: Path) -> None:
    def fitted(jobs: int) -> list[list[float]]:
        report = api.fit(
            small_model, small_data, scheme=SCHEME, epochs=1, augment="flip", seeds=2, head_start=False,
            float_reference=True, jobs=jobs,
        )  # fmt: skip
        return [[epoch.loss for epoch in run.epochs] for run in report.floating]

    np.testing.assert_allclose(fitted(2), fitted(1), rtol=1e-5)


def test_other_rules_have_no_reference(task: Task) -> None:
    for changed in ({"optimizer": Optimizer("momentum", 0.9)}, {"loss": Loss("mean_squared_error")}):
        with pytest.raises(SchemeError, match="no float reference"):
            check_reference(replace(task, scheme=task.scheme.but(**changed)))


def test_label_smoothing_and_class_weights_are_torchs(task: Task) -> None:
    """Beside the softmax written out: the target is 1 - s + s / classes for the label, s / classes for the others."""
    batch = task.settings.steps(task.train.y, 0)[:4]
    model = model_of(task)
    known = FrozenParts(task).train(batch, 0, 0)
    weights, smoothing = (0.5, 2.0, 1.0), 0.3
    loss, _ = descend(model_of(task), known, batch, Loss(label_smoothing=smoothing, class_weights=weights))
    logits = model.forward_from(known).detach().numpy().astype(float)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    want = 0.0
    for row, step in zip(logs, batch, strict=True):
        target = np.full(3, smoothing / 3)
        target[step.label] += 1 - smoothing
        want -= weights[step.label] * float(target @ row)
    assert loss == pytest.approx(want, rel=1e-4)
