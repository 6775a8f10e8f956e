# SPDX-License-Identifier: Apache-2.0
"""Whole training steps: the C runtime equals the numpy oracle to the bit, over random networks and schemes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests import nets
from tests.training import Pair
from tests.twins import no_undefined_behaviour, sanitized_runtime
from tinytrain.graph import Graph, Phase
from tinytrain.host import machine as machine_module
from tinytrain.ops import names
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, training_graph
from tinytrain.train.optimizer import Optimizer

SEEDS = 120
RATES = [0.0, 2.0**-30, 0.002, 0.05, 3.0, 3e38]


def train(graph: Graph, rate: float, seed: int, steps: int = 5) -> Pair:
    """Steps on random samples; every second one ends a batch. Pair compares all persistent memory each time."""
    rng = np.random.default_rng(seed)
    pair = Pair(graph, rate, seed)
    for step in range(steps):
        sample = nets.random_sample(rng, graph)
        if step == 1:
            sample = rng.choice(np.array([-128, 127], np.int8), sample.shape)
        outputs = graph["logits"].size
        pair.step(sample, int(rng.integers(max(2, outputs))), rng.normal(0, 10.0 ** rng.uniform(-3, 4), outputs))
        if step % 2:
            pair.apply()
    return pair


OPTIMIZERS = [
    Optimizer(),
    Optimizer("momentum", 0.9, weight_decay=0.01),
    Optimizer("sgd", weight_decay=0.5, clip=1.5),
    Optimizer("sign", clip=0.25),
    Optimizer("lion", 0.9, 0.99, weight_decay=0.1),
    Optimizer("adam", 0.9, 0.999, clip=4.0),
    Optimizer(),
    Optimizer("momentum", 0.0, clip=1024.0),
    Optimizer("adam", 0.0, 0.99999, weight_decay=1.0),
    Optimizer("lion", 0.9, 0.99, stateful=0.5),
    Optimizer("adam", 0.9, 0.999, weight_decay=0.1, clip=2.0, stateful=0.25),
]


def random_case(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    scheme = nets.with_random_loss(rng, forward, nets.random_scheme(rng, forward))
    return training_graph(forward, scheme.but(optimizer=OPTIMIZERS[seed % len(OPTIMIZERS)]))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_host_equals_oracle_on_a_random_net_and_scheme(seed: int) -> None:
    train(random_case(seed), RATES[seed % len(RATES)], seed)


def test_the_random_nets_cover_every_operator_with_a_gradient() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen.update(node.op for node in random_case(seed).nodes)
    # heads become classifiers; a softmax has no gradient; transpositions have a test of their own
    missing = set(names()) - set(seen) - {"softmax", "fully_connected", "transpose", "transpose_gradient"}
    assert not missing, missing


@pytest.mark.parametrize("update", ["master", "stochastic", "truncate"])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("classes, gradients", [(None, "int16"), (7, "int16"), (7, "int8")])
def test_host_equals_oracle_on_every_kind_of_update(
    residual: Graph, update: str, accumulate: bool, classes: int | None, gradients: str
) -> None:
    layers = {
        "stem": LayerUpdate(False, Slice("input", (0, 2))),
        "block0.expand": LayerUpdate(True, Slice("input", (1, 3, 4))),
        "block0.depthwise": LayerUpdate(True, Slice("output", (0, 5, 6, 11))),
        "block0.project": LayerUpdate(True, Slice("all")),
        "block1.expand": LayerUpdate(True),
        "last": LayerUpdate(True, Slice("output", (3, 4, 9))),
    }
    scheme = Scheme(layers, classes, update, accumulate, gradients=gradients)
    pair = train(training_graph(residual, scheme), 0.05, 11, steps=8)
    assert pair.machine.view("hyper")[3] == 8


@pytest.mark.parametrize("gradients", ["int16", "int8"])
def test_host_equals_oracle_after_many_steps(residual: Graph, gradients: str) -> None:
    train(training_graph(residual, all_weights(residual).but(gradients=gradients)), 0.01, 3, steps=60)


def test_dense_layers_in_the_middle_train_too() -> None:
    net = nets.Net(np.random.default_rng(1))
    y = net.dense("first", net.conv("c", net.input((3, 3, 2)), 4), 9, relu=True)
    forward = net.done(net.dense("head", net.dense("second", y, 6), 3))
    layers = {
        "first": LayerUpdate(True, Slice("input", (0, 5, 35))),
        "second": LayerUpdate(True, Slice("output", (1, 2))),
    }
    for scheme in (Scheme(layers), all_weights(forward), all_weights(forward).but(gradients="int8")):
        graph = training_graph(forward, scheme)
        assert any(node.op == "fully_connected" for node in graph.nodes)
        train(graph, 0.05, 1)


@pytest.mark.parametrize("gradients", ["int16", "int8"])
def test_a_transposition_in_the_middle_trains_too(gradients: str) -> None:
    net = nets.Net(np.random.default_rng(1))
    y = net.conv("c", net.input((3, 4, 2)), 5)
    tensor = net.graph[y]
    y = net._node("transpose", "t", (y,), {"perm": (2, 0, 1)}, tensor.scale, tensor.zero_point)
    forward = net.done(net.dense("head", net.conv("d", y, 3), 3))
    graph = training_graph(forward, all_weights(forward).but(gradients=gradients))
    assert any(
        node.op == "transpose_gradient" or (node.op == "transpose" and node.phase is Phase.BACKWARD)
        for node in graph.nodes
    )
    train(graph, 0.05, 1)


def test_no_step_runs_into_undefined_behaviour(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same steps with a runtime compiled with the sanitizer."""
    monkeypatch.setattr(machine_module, "runtime", sanitized_runtime)
    with no_undefined_behaviour(capfd):
        for seed in range(1000, 1040):
            train(random_case(seed), RATES[seed % len(RATES)], seed)


def test_inference_between_steps_changes_nothing(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual))
    outcomes = []
    for between in (False, True):
        pair, rng = Pair(graph, 0.03), np.random.default_rng(2)
        for _ in range(4):
            sample, label = nets.random_sample(rng, graph), int(rng.integers(4))
            if between:
                pair.machine.infer(np.flip(sample).copy())
            outcomes.append(pair.step(sample, label))
    assert outcomes[:4] == outcomes[4:]
