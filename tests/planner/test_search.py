# SPDX-License-Identifier: Apache-2.0
"""The planner's choice: importance is the gradient's, greedy takes the best step that fits, a seed decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.training import machine_of, measured_gradients
from tinytrain.boards import Board
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.planner import make_plan
from tinytrain.planner.budget import account
from tinytrain.planner.importance import Importance, fisher
from tinytrain.planner.make import Samples
from tinytrain.planner.search import Problem, channel_ranking, greedy
from tinytrain.train import LayerUpdate, Scheme, all_weights, trainable_layers, training_graph
from tinytrain.train.parameters import with_parameters


def importance_of(graph: Graph, rng: np.random.Generator) -> dict[str, Importance]:
    """Random worths."""
    return {
        node.name: Importance(float(rng.uniform()), rng.uniform(size=graph[node.inputs[2]].shape[-1]))
        for node in trainable_layers(graph)
    }


def size_of(scheme: Scheme) -> int:
    """A stand-in for the ledger: channels and biases."""
    return sum(
        u.bias + (0 if u.weights is None else 100 if u.weights.axis == "all" else len(u.weights.channels))
        for u in scheme.layers.values()
    )


@pytest.mark.parametrize("limit", [0, 1, 5, 40, 10**6])
def test_greedy_keeps_the_budget_and_ends_where_nothing_more_fits(
    residual: Graph, rng: np.random.Generator, limit: int
) -> None:
    seen: list[Scheme] = []

    def fits(scheme: Scheme) -> bool:
        seen.append(scheme)
        return size_of(scheme) <= limit

    chosen = greedy(Problem(residual, Scheme(), importance_of(residual, rng), fits))
    assert size_of(chosen) <= limit
    if limit == 0:
        assert chosen == Scheme()
    if limit == 10**6:
        assert chosen.layers == all_weights(residual).layers
    assert len(seen) == len({repr(scheme) for scheme in seen}), "nothing is tried twice"


def test_greedy_prefers_importance_per_byte(residual: Graph, rng: np.random.Generator) -> None:
    """One layer matters a thousand times more than the others: it is the first to be trained."""
    for favourite in ("block0.project", "last"):
        worths = importance_of(residual, rng)
        strong = worths[favourite]
        worths[favourite] = Importance(1000 * strong.bias, 1000 * strong.channels)
        order: list[str] = []

        def fits(scheme: Scheme, order: list[str] = order) -> bool:
            order.extend(name for name in scheme.layers if name not in order)
            return len(scheme.layers) <= 1

        chosen = greedy(Problem(residual, Scheme(), worths, fits))
        assert order[0] == favourite and set(chosen.layers) == {favourite}


def test_a_step_that_does_not_fit_ends_nothing(residual: Graph, rng: np.random.Generator) -> None:
    """A layer that never fits is left out; all others are still trained."""
    chosen = greedy(
        Problem(residual, Scheme(), importance_of(residual, rng), lambda scheme: "block0.project" not in scheme.layers)
    )
    everything = all_weights(residual).layers
    assert chosen.layers == {name: update for name, update in everything.items() if name != "block0.project"}


def test_what_has_no_importance_is_not_trained(residual: Graph, rng: np.random.Generator) -> None:
    worths = importance_of(residual, rng)
    worths["stem"] = Importance(0.0, np.zeros(3))
    chosen = greedy(Problem(residual, Scheme(), worths, lambda scheme: True))
    assert "stem" not in chosen.layers and len(chosen.layers) == len(worths) - 1


def test_slices_of_one_stream_are_nested_so_that_each_is_one_block(residual: Graph, rng: np.random.Generator) -> None:
    worths = importance_of(residual, rng)
    ranking = channel_ranking(residual, trainable_layers(residual), worths)
    readers = ["block0.expand", "block1.expand", "last"]
    for name in readers:
        np.testing.assert_array_equal(ranking[name], ranking[readers[0]])
    chosen = greedy(Problem(residual, Scheme(), worths, lambda scheme: size_of(scheme) <= 30))
    graph, _ = with_parameters(residual, chosen)
    for node in graph.nodes:
        update = chosen.layers.get(node.name)
        if update and update.weights and update.weights.axis != "all" and node.name != "stem":
            assert len(node.inputs) == 2 + 2, f"{node.name} is in {len(node.inputs) - 2} blocks"


@pytest.mark.usefixtures("unlinked")
def test_the_same_seed_chooses_the_same_scheme(model: Path, samples: Samples, board: Board) -> None:
    narrow = board.narrowed(sram=6880)
    first = make_plan(model, narrow, samples=samples, seed=3)
    second = make_plan(model, narrow, samples=samples, seed=3)
    assert first.as_dict() == second.as_dict()
    assert first.scheme.layers and first.sram.total <= 6880
    assert first.scheme.layers != all_weights(first.forward).layers, "a narrow budget leaves something out"


@pytest.mark.usefixtures("unlinked")
def test_nothing_more_would_have_fitted(model: Path, samples: Samples, board: Board) -> None:
    """Any bias the plan does not train would pass the budget, or matters not at all."""
    narrow = board.narrowed(sram=6880)
    made = make_plan(model, narrow, samples=samples)
    for node in trainable_layers(made.forward):
        update = made.scheme.layers.get(node.name, LayerUpdate())
        if not update.bias:
            more = made.scheme.but(layers={**made.scheme.layers, node.name: LayerUpdate(True, update.weights)})
            assert account(training_graph(made.forward, more), narrow).sram.total > 6880


@pytest.mark.usefixtures("unlinked")
def test_progress_is_told_of_every_stage(model: Path, samples: Samples, board: Board) -> None:
    told: list[tuple[str, int, int]] = []
    make_plan(model, board.narrowed(sram=7008), samples=samples, progress=lambda *event: told.append(event))
    assert {stage for stage, _, _ in told} >= {"head", "fisher", "search"}
    assert all(done > 0 and (total == 0 or done <= total) for _, done, total in told)


def test_importance_is_the_mean_squared_gradient(residual: Graph) -> None:
    """Against gradients read out one by one; the own head is trained for a moment first, so it is copied."""
    rng = np.random.default_rng(0)
    x = np.stack([nets.random_sample(rng, residual) for _ in range(4)])
    y = rng.integers(0, 4, 4)
    found = fisher(residual, Scheme(), x, y, seed=0)
    # the head as it is after one pass over the same samples in the same order
    machine = machine_of(training_graph(residual, Scheme()), 0.02)
    for index in np.random.default_rng(0).permutation(4):
        machine.train_step(x[index], int(y[index]))
    graph = training_graph(residual, all_weights(residual).but(accumulate=True))
    for part in ("bias", "weight"):
        name = f"head.head.{part}"
        graph.tensors[name] = graph[name].but(data=machine.read(name))
    squares = [measured_gradients(graph, sample, int(label)) for sample, label in zip(x, y)]
    for layer, importance in found.items():
        bias = np.mean([(g[f"{layer}.b"] ** 2).sum() for g in squares])
        weights = np.mean(
            [(g[f"{layer}.w"] ** 2).reshape(-1, len(importance.channels)).sum(axis=0) for g in squares], axis=0
        )
        assert importance.bias == pytest.approx(bias, rel=0.02)
        np.testing.assert_allclose(importance.channels, weights, rtol=0.05, atol=0.01 * weights.max())


def test_importance_is_the_same_for_the_same_seed(model: Path, samples: Samples) -> None:
    forward = load_model(model)
    first, second = (fisher(forward, Scheme(), samples.x, samples.y, seed=1) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name].channels, second[name].channels)


def test_a_channel_that_is_always_zero_has_no_importance() -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("first", net.input((4, 4, 3), zero_point=5), 6, relu=True)
    forward = net.done(net.dense("head", net.mean("m", net.conv("second", y, 5)), 3))
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (8, 4, 4, 3)).astype(np.int8)
    x[..., 1] = 5  # real zero
    found = fisher(forward, Scheme(), x, rng.integers(0, 3, 8), seed=0)
    assert found["first"].channels[1] == 0 and found["first"].channels[0] > 0
