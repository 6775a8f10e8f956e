# SPDX-License-Identifier: Apache-2.0
"""The torch model of a graph computes what the int8 network computes, on batches, from the middle on, by a scheme."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tests import nets
from tests.oracle import activation, one_node
from tinytrain.errors import DataError, GraphError, ToolMissing
from tinytrain.floating import TorchModel
from tinytrain.graph import Graph, Quantization
from tinytrain.ops import evaluate, lookup, names
from tinytrain.train import LayerUpdate, Scheme, Slice, training_graph

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def batch_of(graph: Graph, count: int = 3, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([nets.random_sample(rng, graph) for _ in range(count)])


@pytest.mark.parametrize("seed", range(30))
def test_every_activation_of_a_random_net_is_within_a_step_of_the_int8_network(seed: int) -> None:
    """Node by node: each is given the int8 network's own inputs, so errors cannot add up."""
    forward = nets.random_net(np.random.default_rng(seed))
    batch = batch_of(forward)
    model = TorchModel(forward, dtype="float64", activations="quantized")
    runs = [evaluate(forward, {"x": sample}) for sample in batch]
    integers = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    known = {name: model.real(name, value) for name, value in integers.items() if name in model.graph.tensors
             and model.graph[name].role.in_arena}  # fmt: skip
    for node in model.graph.nodes[:-1]:
        y = model.graph[node.outputs[0]]
        steps = model.node_value(node, known) / y.scale + y.zero_point
        assert float((steps.detach() - torch.tensor(integers[y.name])).abs().max()) < 1.01, node.name
    logits = evaluate(training_graph(forward, Scheme()), {"x": batch[0], "label": np.zeros(1, np.int32)})["logits"]
    np.testing.assert_allclose(model.node_value(model.graph.nodes[-1], known).detach()[0], logits / 65536, atol=1e-3)


@pytest.mark.parametrize("activations", ["float", "masked", "quantized"])
def test_a_batch_is_its_samples_and_a_prefix_is_the_network(residual: Graph, activations: str) -> None:
    scheme = Scheme({"block1.project": LayerUpdate(True)}, classes=3)
    model = TorchModel(residual, scheme, "float64", activations)
    assert model.graph.nodes[model.start].name == "block1.project"
    batch = batch_of(residual)
    logits = model.forward(batch)
    assert logits.shape == (3, 3)
    for index, sample in enumerate(batch):
        torch.testing.assert_close(model.forward(sample[None]), logits[index : index + 1])
    known = model.prefix(batch)
    assert set(known) == {"block1.depthwise.y", "block0.add.y"}
    assert torch.equal(model.forward_from(known), logits)
    torch.testing.assert_close(model.forward_from({name: value[1:2] for name, value in known.items()}), logits[1:2])


def test_only_what_the_scheme_trains_moves(residual: Graph) -> None:
    layers = {
        "block0.expand": LayerUpdate(False, Slice("input", (1, 4))),
        "block0.depthwise": LayerUpdate(True, Slice("input", (0, 3))),
        "block1.expand": LayerUpdate(True, Slice("output", (2, 5, 11))),
    }
    model = TorchModel(residual, Scheme(layers))
    before = {name: value.detach().clone() for name, value in model.parameters.items()}
    optimizer = torch.optim.SGD(model.trained(), lr=0.1)
    model.loss(model.forward(batch_of(residual)), np.array([0, 1, 2])).backward()
    model.mask_gradients()
    optimizer.step()
    moved = {name: (value.detach() != before[name]).numpy() for name, value in model.parameters.items()}
    assert {name for name, where in moved.items() if where.any()} == {
        "block0.expand.w", "block0.depthwise.w", "block0.depthwise.b", "block1.expand.w", "block1.expand.b",
        "head.head.weight", "head.head.bias",
    }  # fmt: skip
    assert np.flatnonzero(moved["block0.expand.w"].any(axis=(0, 1, 2))).tolist() == [1, 4]
    assert np.flatnonzero(moved["block0.depthwise.w"].any(axis=(0, 1))).tolist() == [0, 3]
    assert np.flatnonzero(moved["block1.expand.w"].any(axis=(1, 2, 3))).tolist() == [2, 5, 11]


def test_single_precision_is_near_double(residual: Graph) -> None:
    batch, labels = batch_of(residual), np.array([0, 1, 2])
    exact = TorchModel(residual, dtype="float64").gradients(batch, labels)
    for name, got in TorchModel(residual).gradients(batch, labels).items():
        assert got.dtype == np.float32
        assert np.linalg.norm(got - exact[name]) < 1e-4 * np.linalg.norm(exact[name])


def test_a_network_that_computes_something_else_is_noticed(residual: Graph) -> None:
    batch = batch_of(residual)
    runs = [evaluate(residual, {"x": sample}) for sample in batch]
    integers = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    model = TorchModel(residual, dtype="float64")
    model.forward(batch, integers)
    integers["block0.add.y"] = integers["block0.add.y"] ^ 4
    with pytest.raises(GraphError, match=r"block0\.add"):
        model.forward(batch, integers)


OTHERS = {
    "transpose": ((2, 3, 4), {"perm": (2, 0, 1)}, (0.02, 3)),
    "softmax": ((5,), {"beta": 0.7}, (1 / 256, -128)),
    "pad": ((2, 3), {"padding": ((1, 0), (2, 3))}, (0.02, 3)),
}


@pytest.mark.parametrize("op", OTHERS)
def test_operators_that_no_random_net_has(op: str) -> None:
    shape, attrs, meaning = OTHERS[op]
    fields = {"quantization": Quantization.per_tensor(*meaning)}
    graph = one_node(op, {"x": activation("x", shape, 0.02, 3)}, attrs, fields)
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    want = (evaluate(graph, {"x": x})["y"].astype(float) - meaning[1]) * meaning[0]
    real = torch.tensor((x.astype(float) - 3) * 0.02)[None]
    got = lookup(op).floating(graph, graph.nodes[0], real)[0]
    np.testing.assert_allclose(got, want, atol=1.01 * meaning[0] if op == "softmax" else 1e-12)


def test_every_operator_of_a_forward_graph_has_a_float_definition() -> None:
    """Those with a gradient, a softmax, and those without parameters: everything that a front end makes."""
    base = type(lookup("gradient_add")).__mro__[1]
    without = {name for name in names() if type(lookup(name)).floating is base.floating}
    with_gradient = {name for name in names() if type(lookup(name)).gradient is not base.gradient}
    assert not without & with_gradient


def test_without_torch_the_message_says_how_to_get_it(residual: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ToolMissing, match="torch is not installed") as error:
        TorchModel(residual)
    assert error.value.fix == "pip install 'tinytrain[torch]'"


def test_refusals(residual: Graph) -> None:
    with pytest.raises(DataError, match=r"takes \[N, 8, 8, 3\]"):
        TorchModel(residual).forward(np.zeros((8, 8, 3), np.int8))
    with pytest.raises(DataError, match="no such mode"):
        TorchModel(residual, dtype="float16")
