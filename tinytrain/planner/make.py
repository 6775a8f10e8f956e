# SPDX-License-Identifier: Apache-2.0
"""Model, data and board -> Plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinytrain.boards import Board
from tinytrain.errors import DataError, ToolMissing
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.planner.budget import ASSUMED, Overhead, account, linked, require_fit
from tinytrain.planner.calibrate import measure_exponents, random_samples
from tinytrain.planner.importance import fisher
from tinytrain.planner.plan import Plan
from tinytrain.planner.search import Problem, greedy
from tinytrain.train import Loss, Optimizer, Scheme, all_weights, classifier_node, training_graph

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Samples:
    """Training data as the model takes it.

    x: int8 [N, ...]; y: labels int [N], of no meaning to a loss without labels
    class_count: None where the labels tell
    targets: float [N, outputs], for the loss "mean_squared_error" with the target "given"
    """

    x: np.ndarray
    y: np.ndarray
    class_count: int | None = None
    targets: np.ndarray | None = None

    @property
    def classes(self) -> int:
        return self.class_count or int(self.y.max()) + 1


def make_plan(
    model: Path | str,
    board: Board,
    *,
    samples: Samples | None = None,
    scheme: Scheme | Callable[[Graph], Scheme] | None = None,
    classes: int | None = None,
    update: str = "master",
    accumulate: bool = False,
    loss: Loss | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Plan the training of a model on a board, within the memories the board (narrowed) has.

    samples:  needed to choose a scheme; also sets the number of classes and the initial exponents
    scheme:   a scheme, or a function that makes one for the loaded graph; None lets the planner choose
    classes:  a new head of so many outputs; by default the data decides where it has labels
    loss:     what training makes small; by default the scheme's, cross-entropy without one
    Errors: ModelError, SchemeError, DataError, BudgetError.
    """
    forward = load_model(model)
    given = scheme(forward) if callable(scheme) else scheme
    start = _start(forward, given, samples, classes, update, accumulate)
    start = with_outputs(forward, start.but(loss=loss or start.loss), samples.classes if samples else None)
    if samples is not None and not start.loss.needs_target:
        samples = replace(samples, targets=None)
    require_fit(account(training_graph(forward, start), board), board, smallest=True)
    if given is None:
        overhead = _overhead(forward, start, board)
        chosen = _choose(forward, start, board, overhead, samples, seed, progress)
    else:
        overhead = ASSUMED
        chosen = start.but(layers=given.layers)
    found = account(training_graph(forward, chosen), board, overhead)
    require_fit(found, board, smallest=False)
    data = samples or Samples(*random_samples(found.graph, found.program, seed))
    # a rule that moves by its rate alone would train in earnest; the gradients are the same
    plain = account(training_graph(forward, chosen.but(optimizer=Optimizer())), board, overhead)
    exponents = measure_exponents(plain.graph, plain.program, data.x, data.y, data.targets)
    final = account(training_graph(forward, chosen, exponents), board, overhead)
    notes: tuple[str, ...] = ()
    try:
        final = linked(final, board)
    except ToolMissing as error:
        notes = (f"{error.what}: code is unknown, statics and stack are assumed",)
    require_fit(final, board, smallest=False)
    return Plan(
        Path(model), forward, board, chosen, final.sram, final.flash, exponents, final.overhead.stack_path,
        final.peak_node, notes,
    )  # fmt: skip


def _start(
    forward: Graph, given: Scheme | None, samples: Samples | None, classes: int | None, update: str, accumulate: bool
) -> Scheme:
    """The least scheme: the classifier alone, with the options that hold for all of it."""
    base = given or Scheme()
    return base.but(
        layers={}, classes=classes or base.classes, update=update if update != "master" else base.update,
        accumulate=accumulate or base.accumulate,
    )  # fmt: skip


def with_outputs(forward: Graph, scheme: Scheme, labels: int | None) -> Scheme:
    """The scheme with the outputs that its loss and the data need; labels: how many the data has, None where unknown.

    Errors: DataError where there are more labels than the scheme says.
    """
    own = forward[classifier_node(forward).outputs[0]].size
    binary = scheme.loss.kind == "binary_cross_entropy"
    wanted = scheme.classes
    if scheme.loss.kind == "mean_squared_error":
        labels = None
    if binary and wanted is None and own != 1:
        wanted = 1
    if scheme.loss.kind == "cross_entropy" and wanted is None and labels not in (None, own):
        wanted = max(2, labels or 0)
    count = scheme.loss.labels(own if wanted is None else wanted)
    if labels is not None and labels > count:
        raise DataError(
            f"the data has a label {labels - 1}, but there are {count} classes",
            fix='the loss "cross_entropy" is for more than two classes' if binary else f"--classes {labels}",
        )
    return scheme.but(classes=wanted)


def _overhead(forward: Graph, start: Scheme, board: Board) -> Overhead:
    """What runtime and start-up code add to a firmware with every kernel that training this model may need."""
    widest = start.but(layers=all_weights(forward).layers)
    try:
        return linked(account(training_graph(forward, widest), board), board).overhead
    except ToolMissing:
        return ASSUMED


def _choose(
    forward: Graph,
    start: Scheme,
    board: Board,
    overhead: Overhead,
    samples: Samples | None,
    seed: int,
    progress: Progress | None,
) -> Scheme:
    """The planner's scheme: Fisher information, then greedy under the exact ledger."""
    if samples is None:
        raise DataError(
            "choosing a scheme needs data", why="importance is measured on it", fix="--data, or --scheme FILE"
        )

    if samples.targets is None and start.loss.needs_target:
        raise DataError(
            "choosing a scheme for given targets needs targets", why="importance is measured on them",
            fix="a scheme, or Samples with targets",
        )  # fmt: skip

    def fits(candidate: Scheme) -> bool:
        found = account(training_graph(forward, candidate), board, overhead)
        flash = found.flash.total
        return found.sram.total <= board.sram.size and (flash is None or flash <= board.flash.size)

    importance = fisher(forward, start, samples.x, samples.y, seed, progress, samples.targets)
    return greedy(Problem(forward, start, importance, fits, progress))
