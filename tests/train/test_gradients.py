# SPDX-License-Identifier: Apache-2.0
"""The integer gradients of whole networks are the gradients torch computes, for every parameter."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tests.training import measured_gradients
from tinytrain.floating import TorchModel, cosine
from tinytrain.graph import Graph
from tinytrain.ops import evaluate
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, training_graph

torch = pytest.importorskip("torch")
QUIET = 0.02  # logits' gradients are multiples of 2^-15: a sample that is almost right says little


def whole(forward: Graph, gradients: str = "int16") -> Graph:
    return training_graph(forward, all_weights(forward).but(accumulate=True, gradients=gradients))


def float_model(forward: Graph) -> TorchModel:
    return TorchModel(forward, dtype="float64", activations="masked")


def gradients_of(model: TorchModel, sample: np.ndarray, label: int, integers=None) -> dict[str, np.ndarray]:
    integers = None if integers is None else {name: value[None] for name, value in integers.items()}
    return model.gradients(sample[None], np.array([label]), integers)


def samples(forward: Graph, count: int, seed: int = 5) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    classes = forward[forward.outputs[0]].size
    return [(nets.random_sample(rng, forward), int(rng.integers(classes))) for _ in range(count)]


@pytest.mark.parametrize("gradients", ["int16", "int8"])
def test_every_gradient_of_a_residual_net_is_that_of_an_ordinary_float_net(residual: Graph, gradients: str) -> None:
    """The float net only shares the dequantized weights; nothing is rounded in it. Zero points are away from 0."""
    assert all(residual[node.outputs[0]].zero_point != 0 for node in residual.nodes if node.name != "head")
    graph, model = whole(residual, gradients), float_model(residual)
    assert len(model.parameters) == 2 * 9
    totals: dict[str, list[np.ndarray]] = {name: [np.zeros(()), np.zeros(())] for name in model.parameters}
    for sample, label in samples(residual, 32, seed=1):
        got, want = measured_gradients(graph, sample, label), gradients_of(model, sample, label)
        assert set(got) == set(want)
        for name, gradient in want.items():
            assert cosine(got[name], gradient) > 0.9, name  # an activation at its clamp may fall on either side
            totals[name] = [totals[name][0] + got[name], totals[name][1] + gradient]
    for name, (ours, exact) in totals.items():
        assert cosine(ours, exact) > 0.999, name
        assert abs(np.linalg.norm(ours) / np.linalg.norm(exact) - 1) < 0.02, name


@pytest.mark.parametrize("seed", range(24))
def test_every_gradient_of_a_random_net_is_exact_given_its_activations(seed: int) -> None:
    """With the int8 network's own activations, what differs is the gradients' arithmetic alone."""
    forward = nets.random_net(np.random.default_rng(seed))
    graph, model = whole(forward), float_model(forward)
    for sample, label in samples(forward, 2):
        integers = evaluate(forward, {"x": sample})
        got, want = measured_gradients(graph, sample, label), gradients_of(model, sample, label, integers)
        if np.linalg.norm(want["head.head.bias"]) < QUIET:
            continue
        for name, gradient in want.items():
            size = np.linalg.norm(gradient)
            if size < 1e-4 * np.linalg.norm(want["head.head.bias"]):
                continue
            assert cosine(got[name], gradient) > 0.9999, name
            assert abs(np.linalg.norm(got[name]) / size - 1) < 0.01, name


def test_a_gradient_without_one_branch_would_be_noticed(residual: Graph) -> None:
    """What the field's released code does: the stream's gradient goes through the convolutions only."""
    graph, model = whole(residual), float_model(residual)
    (sample, label) = samples(residual, 1)[0]
    values = model.values(sample[None])
    got = measured_gradients(graph, sample, label)["stem.b"]
    cut = float_model(residual)
    node_value = cut.node_value

    def without_shortcut(node, known, integers):
        known = {
            name: value.detach() if node.op == "add" and name == node.inputs[0] else value
            for name, value in known.items()
        }
        return node_value(node, known, integers)

    cut.node_value = without_shortcut
    assert torch.equal(cut.values(sample[None])["logits"], values["logits"])
    assert cosine(got, gradients_of(cut, sample, label)["stem.b"]) < 0.99
    assert cosine(got, gradients_of(model, sample, label)["stem.b"]) > 0.999


def test_a_slices_gradient_is_the_slice_of_the_gradient(residual: Graph) -> None:
    """To the bit: cutting and reordering channels changes nothing else."""
    layers = {
        "block0.expand": LayerUpdate(True, Slice("input", (1, 4))),
        "block0.depthwise": LayerUpdate(True, Slice("input", (0, 3, 4, 9))),
        "block1.expand": LayerUpdate(True, Slice("output", (2, 5, 11))),
        "last": LayerUpdate(True, Slice("input", (1, 2, 4))),
    }
    scheme = Scheme(layers, accumulate=True)
    # the same layers train whole weights: the same gradients exist, under the same exponents
    everything = Scheme({name: LayerUpdate(True, Slice("all")) for name in layers}, accumulate=True)
    sliced = training_graph(residual, scheme)
    orders = sliced.attrs["channel_orders"]
    sample, label = samples(residual, 1)[0]
    got = measured_gradients(sliced, sample, label)
    want = measured_gradients(training_graph(residual, everything), sample, label)
    found = 0
    for name, gradient in got.items():
        base, _, cut = name.partition("[")
        if not base.endswith(".w"):
            continue
        whole_gradient = want[base]
        for axis in range(whole_gradient.ndim):
            if (base, axis) in orders:
                whole_gradient = np.take(whole_gradient, orders[base, axis], axis)
        start, stop = map(int, cut.rstrip("]").split(":"))
        axis = next(a for a in range(gradient.ndim) if gradient.shape[a] != whole_gradient.shape[a])
        np.testing.assert_array_equal(gradient, np.take(whole_gradient, range(start, stop), axis), err_msg=name)
        found += gradient.shape[axis]
    assert found == 2 + 4 + 3 + 3
