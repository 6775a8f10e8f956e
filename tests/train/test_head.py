# SPDX-License-Identifier: Apache-2.0
"""The trained classifier: the model's own at more bits, or a new one that starts at zero."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tests.training import machine_of
from tinytrain.graph import Graph, Role
from tinytrain.ops import evaluate
from tinytrain.train import Scheme, training_graph
from tinytrain.train.head import with_trained_head


def test_the_own_head_is_the_models_int8_head_with_eight_more_bits(chain: Graph) -> None:
    graph = with_trained_head(chain, Scheme())
    weight, bias = graph["head.head.weight"], graph["head.head.bias"]
    np.testing.assert_array_equal(weight.data, chain["head.w"].data.astype(np.int16) * 256)
    np.testing.assert_allclose(weight.quantization.scale * 256, chain["head.w"].quantization.scale)
    np.testing.assert_array_equal(bias.data, chain["head.b"].data * 256)
    assert (weight.role, bias.role) == (Role.PARAMETER, Role.PARAMETER)
    assert graph.outputs == ["logits"] and graph["logits"].shape == (4,)


@pytest.mark.parametrize("values", [[2**31 - 1, -(2**31), 2**24, 5]])
def test_a_bias_that_does_not_fit_eight_more_bits_saturates(chain: Graph, values: list[int]) -> None:
    chain.tensors["head.b"] = chain["head.b"].but(data=np.array(values, np.int32))
    got = with_trained_head(chain, Scheme())["head.head.bias"].data
    assert got.tolist() == [2**31 - 1, -(2**31), 2**31 - 1, 1280]


def test_a_weight_of_minus_128_becomes_the_symmetric_limit(chain: Graph) -> None:
    data = chain["head.w"].data.copy()
    data[0, 0] = -128
    chain.tensors["head.w"] = chain["head.w"].but(data=data)
    assert with_trained_head(chain, Scheme())["head.head.weight"].data.min() >= -127 * 256


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_a_new_head_gives_every_class_the_same_probability(
    chain: Graph, classes: int, rng: np.random.Generator
) -> None:
    machine = machine_of(training_graph(chain, Scheme(classes=classes)))
    loss, predicted = machine.train_step(nets.random_sample(rng, chain), classes - 1)
    assert abs(loss - np.log(classes)) < 1e-3 and predicted == 0
    assert machine.view("logits").shape == (classes,)


def test_a_new_head_can_reach_logits_that_decide(chain: Graph) -> None:
    """At the limit of its weights, features of a few steps move a logit by several units."""
    scale = with_trained_head(chain, Scheme(classes=3))["head.head.weight"].quantization.scale
    x = chain["pool.y"]
    assert 8 < 32512 * scale[0] * 4 * x.scale * np.sqrt(x.size) < 32


def test_a_convolution_as_head_equals_a_dense_one(rng: np.random.Generator) -> None:
    """The same weights as a 1 x 1 convolution over one pixel and as a dense layer."""
    made = []
    for kind in ("conv", "dense"):
        net = nets.Net(np.random.default_rng(0))
        y = net.mean("m", net.conv("c", net.input((4, 4, 3)), 6), keepdims=True)
        made.append(net.done(net.conv("head", y, 4) if kind == "conv" else net.dense("head", y, 4)))
    sample = nets.random_sample(rng, made[0])
    conv, dense = (machine_of(training_graph(graph, Scheme()), 0.1) for graph in made)
    for step in range(5):
        assert conv.train_step(sample, step % 4) == dense.train_step(sample, step % 4)
    np.testing.assert_array_equal(conv.view("head.head.weight"), dense.view("head.head.weight"))


def test_what_followed_the_classifier_is_dropped(chain: Graph) -> None:
    graph = with_trained_head(chain, Scheme())
    assert [node.name for node in graph.nodes] == [node.name for node in chain.nodes]
    assert "head.y" not in graph.tensors and "head.w" not in graph.tensors


def test_stochastic_updates_need_no_master_for_the_head(chain: Graph) -> None:
    for update, has in (("master", True), ("stochastic", False)):
        graph = with_trained_head(chain, Scheme(update=update))
        assert ("head.head.bias.master" in graph.tensors) is has


def test_the_own_heads_logits_are_the_models_output_in_finer_steps(residual: Graph, rng: np.random.Generator) -> None:
    graph = training_graph(residual, Scheme())
    y = residual["head.y"]
    for _ in range(10):
        sample = nets.random_sample(rng, residual)
        logits = evaluate(graph, {"x": sample, "label": np.zeros(1, np.int32)})["logits"] / 65536
        steps = np.clip(np.round(logits / y.scale) + y.zero_point, -128, 127)
        assert np.abs(steps - evaluate(residual, {"x": sample})["head.y"]).max() <= 1
