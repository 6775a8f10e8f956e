# SPDX-License-Identifier: Apache-2.0
"""Certificates of whole networks: they hold for what we compute, and do not for a gradient that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tinytrain.certificates import certify_network
from tinytrain.errors import DataError
from tinytrain.graph import Graph
from tinytrain.ops import lookup
from tinytrain.train import LayerUpdate, Loss, Scheme, Slice, all_weights

pytest.importorskip("torch").set_num_threads(1)
THRESHOLD = 0.9999


def data(graph: Graph, count: int = 4, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    samples = np.stack([nets.random_sample(rng, graph) for _ in range(count)])
    return samples, rng.integers(0, graph[graph.outputs[0]].size, count)


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_a_network_gets_its_certificate(name: str) -> None:
    graph = getattr(nets, name)()
    certificate = certify_network(graph, all_weights(graph), *data(graph))
    assert len(certificate.rows) == 2 * len(all_weights(graph).layers) + 2
    assert certificate.holds(THRESHOLD) and not certificate.holds(1.1)
    assert max(row.error_same for row in certificate.rows) < 0.02
    assert min(row.cosine_float for row in certificate.rows) > 0.9
    integer = next(curve.losses for curve in certificate.curves if curve.name == "integer")
    assert len(integer) == 20 and integer[-1] < 0.8 * integer[0]
    assert certificate.distance("rounded") < 0.1 and certificate.distance("float") < 0.2


def test_slices_are_compared_block_by_block(residual: Graph) -> None:
    layers = {
        "block0.expand": LayerUpdate(True, Slice("input", (1, 4))),
        "block0.depthwise": LayerUpdate(True, Slice("input", (0, 3, 4, 9))),
        "block1.expand": LayerUpdate(True, Slice("output", (2, 5, 11))),
        "last": LayerUpdate(False, Slice("input", (1, 2, 4))),
    }
    certificate = certify_network(residual, Scheme(layers), *data(residual))
    assert sum("[" in row.name for row in certificate.rows) >= 4
    assert certificate.holds(THRESHOLD), certificate.worst


def test_a_new_classifier_is_left_out(residual: Graph) -> None:
    """Its weights are zeros: nothing would reach the layers before it."""
    certificate = certify_network(residual, Scheme({"last": LayerUpdate(True)}, classes=9), *data(residual))
    assert {row.name: row.size for row in certificate.rows}["head.head.bias"] == 4
    assert all(row.norm > 0 for row in certificate.rows)


@pytest.mark.parametrize(
    "loss", [Loss(label_smoothing=0.2, class_weights=(1.0, 0.5, 2.0, 1.0)), Loss("mean_squared_error", target="given")]
)
def test_every_loss_has_the_float_networks_gradients(residual: Graph, loss: Loss) -> None:
    samples, labels = data(residual)
    if loss.needs_target:
        labels = np.random.default_rng(0).normal(0, 2, (len(samples), 4))
    certificate = certify_network(residual, all_weights(residual).but(loss=loss), samples, labels, steps=3)
    assert certificate.holds(THRESHOLD), certificate.worst
    integer, rounded, _ = (curve.losses for curve in certificate.curves)
    assert abs(integer[0] / rounded[0] - 1) < 0.05


def test_gradients_of_eight_bits_are_right_on_average(residual: Graph) -> None:
    """Rounded stochastically: each is noisy, their mean is not off."""
    scheme = all_weights(residual).but(gradients="int8")
    certificate = certify_network(residual, scheme, *data(residual, 16), steps=1)
    assert 0.97 < certificate.worst.cosine_same < 0.9999, certificate.worst


def test_a_binary_loss_and_an_auto_encoder() -> None:
    net = nets.Net(np.random.default_rng(3), "binary")
    binary = net.done(net.dense("head", net.mean("pool", net.conv("stem", net.input((6, 6, 2)), 8, 3, 1, 1)), 1))
    net = nets.Net(np.random.default_rng(3), "encoder")
    encoder = net.done(net.dense("head", net.dense("code", net.input((24,)), 6, relu=True), 24))
    for graph, loss in ((binary, Loss("binary_cross_entropy")), (encoder, Loss("mean_squared_error"))):
        samples, _ = data(graph)
        scheme = all_weights(graph).but(loss=loss)
        certificate = certify_network(graph, scheme, samples, np.array([0, 1, 1, 0]), steps=2)
        assert certificate.holds(THRESHOLD), certificate.worst


def broken_add(self, build, node, gy, wanted):
    """The shortcut of a residual block gets nothing: what the field's released code does."""
    results = correct_add(self, build, node, gy, wanted)
    return [None, *results[1:]]


def broken_depthwise(self, build, node, gy, wanted):
    """The clamp is forgotten."""
    masked, build.masked = build.masked, lambda node, gy: gy
    try:
        return correct_depthwise(self, build, node, gy, wanted)
    finally:
        build.masked = masked


correct_add = type(lookup("add")).gradient
correct_depthwise = type(lookup("depthwise_conv2d")).gradient


@pytest.mark.parametrize("op, broken", [("add", broken_add), ("depthwise_conv2d", broken_depthwise)])
def test_a_wrong_gradient_gets_none(residual: Graph, op: str, broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(lookup(op)), "gradient", broken)
    certificate = certify_network(residual, all_weights(residual), *data(residual), steps=1)
    assert certificate.worst.cosine_same < 0.99


@pytest.mark.parametrize("labels", [[], [0, 1, 2], [0, 1, 2, 4], [0, 1, 2, -1]])
def test_labels_that_do_not_fit_are_refused(residual: Graph, labels: list[int]) -> None:
    with pytest.raises(DataError, match="samples with"):
        certify_network(residual, Scheme(), data(residual)[0], np.array(labels, np.int64))
