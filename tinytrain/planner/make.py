# SPDX-License-Identifier: Apache-2.0
"""Model, data and board -> Plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from tinytrain.train import Scheme, all_weights, classifier_node, training_graph

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Samples:
    """Training data as the model takes it: int8 [N, ...], labels int [N]; class_count: None where the labels tell."""

    x: np.ndarray
    y: np.ndarray
    class_count: int | None = None

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
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Plan the training of a model on a board, within the memories the board (narrowed) has.

    samples:  needed to choose a scheme; also sets the number of classes and the initial exponents
    scheme:   a scheme, or a function that makes one for the loaded graph; None lets the planner choose
    classes:  a new classifier of so many classes; by default the data decides
    Errors: ModelError, SchemeError, DataError, BudgetError.
    """
    forward = load_model(model)
    given = scheme(forward) if callable(scheme) else scheme
    start = _start(forward, given, samples, classes, update, accumulate)
    require_fit(account(training_graph(forward, start), board), board, smallest=True)
    if given is None:
        overhead = _overhead(forward, start, board)
        chosen = _choose(forward, start, board, overhead, samples, seed, progress)
    else:
        overhead = ASSUMED
        chosen = start.but(layers=given.layers, scaling=given.scaling)
    found = account(training_graph(forward, chosen), board, overhead)
    require_fit(found, board, smallest=False)
    data = samples or Samples(*random_samples(forward[forward.inputs[0]].shape, found.classes, seed))
    exponents = measure_exponents(found, data.x, data.y)
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
    own = forward[classifier_node(forward).outputs[0]].size
    wanted = classes or (given.classes if given else None)
    if samples is not None:
        if wanted is not None and samples.classes > wanted:
            raise DataError(
                f"the data has a label {samples.classes - 1}, but there are {wanted} classes",
                fix=f"--classes {samples.classes}",
            )
        if wanted is None and samples.classes != own:
            wanted = max(2, samples.classes)
    base = given or Scheme()
    return Scheme(
        {}, wanted, update if update != "master" else base.update, accumulate or base.accumulate, base.scaling
    )


def _overhead(forward: Graph, start: Scheme, board: Board) -> Overhead:
    """What runtime and start-up code add to a firmware with every kernel that training this model may need."""
    widest = all_weights(forward).but(classes=start.classes, update=start.update, accumulate=start.accumulate)
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

    def fits(candidate: Scheme) -> bool:
        found = account(training_graph(forward, candidate), board, overhead)
        flash = found.flash.total
        return found.sram.total <= board.sram.size and (flash is None or flash <= board.flash.size)

    importance = fisher(forward, start, samples.x, samples.y, seed, progress)
    return greedy(Problem(forward, start, importance, fits, progress))
