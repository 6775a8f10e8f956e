# SPDX-License-Identifier: Apache-2.0
"""The Python API: what the command line does, as functions with typed results.

graph = tinytrain.load("model.onnx")
plan = tinytrain.plan("model.onnx", board="stm32f746", data="pets.npz", sram="256K")
folder = tinytrain.export(plan, "firmware")
report = tinytrain.run(folder, "pets.npz", epochs=3)
report = tinytrain.fit("model.onnx", "pets.npz", scheme="all", epochs=12, seeds=3)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinytrain import boards as board_catalogue
from tinytrain.augment import Augment
from tinytrain.boards import Board, parse_size
from tinytrain.certificates import Certificate, certify_network
from tinytrain.data import Dataset, InputSpec, check_data, drawn_samples, gather_samples, load_data
from tinytrain.errors import SchemeError
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.learning import FitProgress, FitReport, Settings
from tinytrain.learning import fit as run_trainings
from tinytrain.planner import Plan, export_plan, make_plan
from tinytrain.planner.make import Samples
from tinytrain.session import RATE_PER_SAMPLE, run_training
from tinytrain.train import Loss, Scheme, all_weights, load_scheme, parse_fields, parse_scheme
from tinytrain.train.loss import parse_loss

PLANNING_SAMPLES = 1024  # at most; importance and exponents are measured on a few of them
CERTIFIED_SAMPLES = 8

load = load_model
run = run_training


def boards() -> list[Board]:
    """Every board, by name."""
    return board_catalogue.all_boards()


def plan(
    model: Path | str,
    *,
    board: Board | str,
    data: Dataset | Path | str | None = None,
    sram: int | str | None = None,
    flash: int | str | None = None,
    scheme: Scheme | Mapping[str, Any] | Path | str | None = None,
    scheme_key: str | None = None,
    classes: int | None = None,
    update: str = "master",
    accumulate: bool = False,
    loss: Loss | Mapping[str, Any] | str | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Plan:
    """Plan the training of a model on a board.

    sram, flash: narrower budgets, in bytes or as "256K"
    scheme:     a Scheme, its JSON form, a file (`scheme_key` names one of several), "head" for the classifier alone or
                "all" for every weight; by default the planner chooses, which needs data
    classes:    a new head of so many outputs; by default one is made where the data has another number of classes
                than the model
    update:     "master" or "stochastic"
    accumulate: plan for batches
    loss:       what training makes small: a Loss, its JSON form or its kind; by default the scheme's
    Errors: ModelError, DataError, SchemeError, BoardError, BudgetError.
    """
    target = board_catalogue.load(board) if isinstance(board, str) else board
    target = target.narrowed(
        sram=None if sram is None else parse_size(sram), flash=None if flash is None else parse_size(flash)
    )
    chosen = _scheme(scheme, scheme_key)
    wanted = loss if isinstance(loss, Loss | None) else parse_loss(loss)
    samples = None
    if data is not None:
        forward = load_model(model)
        chosen = chosen(forward) if callable(chosen) else chosen
        samples = _planning_data(data, InputSpec.of(forward), wanted or (chosen or Scheme()).loss, classes, seed)
    return make_plan(
        model, target, samples=samples, scheme=chosen, classes=classes, update=update, accumulate=accumulate,
        loss=wanted, seed=seed, progress=progress,
    )  # fmt: skip


def _planning_data(data: Dataset | Path | str, spec: InputSpec, loss: Loss, classes: int | None, seed: int) -> Samples:
    """Some of the data, checked."""
    labelled = loss.labels(classes or 2) > 0
    loaded = data if isinstance(data, Dataset) else load_data(data, spec, labelled=labelled)
    check_data(loaded, spec, None if classes is None or not labelled else loss.labels(classes))
    return planning_samples(loaded, spec, seed)


def export(plan: Plan | Path | str, folder: Path | str) -> Path:
    """Write the firmware folder of a plan (or plan.json). It must not exist yet; it appears whole or not at all."""
    return export_plan(plan if isinstance(plan, Plan) else Plan.load(plan), folder)


def certify(
    model: Path | str,
    *,
    scheme: Scheme | Mapping[str, Any] | Path | str = "all",
    scheme_key: str | None = None,
    data: Dataset | Path | str | None = None,
    samples: int = CERTIFIED_SAMPLES,
    rate: float | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Certificate:
    """Compare a model's integer training with torch: the gradient of every trained tensor, and a loss curve.

    scheme, scheme_key: as for `plan`
    data:    with the model's own classes; without it samples and labels are random
    rate:    of the loss curve; by default one that suits the gradients
    """
    graph = load_model(model)
    chosen = _scheme(scheme, scheme_key)
    assert chosen is not None
    named = chosen if isinstance(chosen, Scheme) else chosen(graph)
    spec, rng = InputSpec.of(graph), np.random.default_rng(seed)
    if data is None:
        x = rng.integers(-128, 128, (samples, *spec.shape)).astype(np.int8)
        y = _random_answers(rng, named, graph[graph.outputs[0]].size, samples)
    else:
        data = data if isinstance(data, Dataset) else load_data(data, spec, seed)
        check_data(data, spec)
        indices = rng.permutation(len(data.x_train))[:samples]
        x, y = gather_samples(data.x_train, indices, spec), data.y_train[indices]
    return certify_network(graph, named, x, y, rate, progress=progress)


def fit(
    model: Path | str,
    data: Dataset | Path | str,
    *,
    scheme: Scheme | Mapping[str, Any] | Path | str = "head",
    scheme_key: str | None = None,
    classes: int | None = None,
    epochs: int = 12,
    batch: int = 8,
    lr: float | None = None,
    schedule: str = "cosine",
    augment: Augment | str = "",
    seeds: int | Sequence[int] = 1,
    eval_count: int | None = None,
    eval_every: int = 1,
    overrides: Mapping[str, Any] | None = None,
    head_start: bool = True,
    float_reference: bool = False,
    jobs: int = 1,
    checkpoint: Path | str | None = None,
    cache: int | str = "4G",
    progress: Callable[[FitProgress], None] = lambda moment: None,
) -> FitReport:
    """Train a scheme on the host runtime, with the bits a board would have, once per seed.

    scheme:     as of `plan`; "head", the classifier alone, by default
    batch:      samples per update; the scheme accumulates where it is more than 1
    lr:         of a batch's mean gradient (default: 0.005 times the batch)
    augment:    an Augment, or its text, "flip,shift=4,crop=0.875,gain=0.1"
    seeds:      the seeds, or how many: 0, 1, ...
    eval_count: test samples for accuracy (default: all); eval_every: epochs between two evaluations
    overrides:  fields of the scheme to replace, in its JSON form: update, scaling, gradients, optimizer, loss
    head_start: also train the classifier alone for one epoch, for comparison
    float_reference: also train every seed in float, with torch
    jobs:       processes over which the seeds are spread
    checkpoint: a folder for the state at every epoch's end; an interrupted call goes on from it, with the same bits
    cache:      bytes for what frozen layers compute, which is then computed once per sample
    Errors: ModelError, DataError, SchemeError, OutputError.
    """
    settings = Settings(
        epochs, batch, RATE_PER_SAMPLE * batch if lr is None else lr, schedule,
        Augment.parse(augment) if isinstance(augment, str) else augment, eval_count, eval_every, parse_size(cache),
    )  # fmt: skip
    chosen = _scheme(scheme, scheme_key)
    assert chosen is not None
    return run_trainings(
        model, data, chosen, settings, seeds=range(seeds) if isinstance(seeds, int) else seeds,
        overrides=parse_fields(overrides or {}), classes=classes, head_start=head_start,
        float_reference=float_reference, jobs=jobs,
        checkpoint=checkpoint, progress=progress,
    )  # fmt: skip


def _random_answers(rng: np.random.Generator, scheme: Scheme, outputs: int, count: int) -> np.ndarray:
    """Labels, or normally distributed values where the loss is given some."""
    if scheme.loss.needs_target:
        return rng.normal(0, 1, (count, outputs))
    return rng.integers(0, max(1, scheme.loss.labels(outputs)), count)


def planning_samples(data: Dataset, spec: InputSpec, seed: int) -> Samples:
    """Some training samples, as a planner needs them."""
    return Samples(*drawn_samples(data, spec, PLANNING_SAMPLES, seed), data.class_count)


def _scheme(
    scheme: Scheme | Mapping[str, Any] | Path | str | None, key: str | None
) -> Scheme | Callable[[Graph], Scheme] | None:
    """What make_plan takes: names and channels are looked up once the model is loaded."""
    if key is not None and not isinstance(scheme, Path | str):
        raise SchemeError(f"a scheme key '{key}' without a scheme file", fix="--scheme FILE --scheme-key KEY")
    match scheme:
        case None | Scheme():
            return scheme
        case "head":
            return Scheme()
        case "all":
            return all_weights
        case Mapping():
            return lambda graph: parse_scheme(scheme, graph)
    return lambda graph: load_scheme(scheme, graph, key)
