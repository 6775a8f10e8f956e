# SPDX-License-Identifier: Apache-2.0
"""binary_cross_entropy: the softmax of the logits 0 and z, of which z trains; held to float64 and torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.losses import EDGES, UNIT, differences, factor_error, label_tensor, loss_graph, run_loss, torch_gradient
from tests.twins import no_undefined_behaviour, sanitized_runtime
from tinytrain.errors import GraphError
from tinytrain.host import machine as machine_module
from tinytrain.ops.cross_entropy import constants

CASES: list[dict[str, Any]] = [
    {}, {"label_smoothing": 0.1}, {"class_weights": (0.5, 8.0)},
    {"label_smoothing": 0.6, "class_weights": (0.003, 2.5)},
    {"label_smoothing": 0.999, "class_weights": (1000.0, 0.001)},
]  # fmt: skip
logits = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1), st.integers(-(12 << 16), 12 << 16))


def run(z: int, label: int, attrs: dict[str, Any]) -> tuple[float, int, int]:
    """(real gradient, loss, prediction), C and oracle agreeing."""
    graph = loss_graph("binary_cross_entropy", 1, label_tensor(), attrs)
    inputs = {"y": np.array([z], np.int32), "label": np.array([label], np.int32)}
    mantissas, loss, predicted, _ = run_loss(graph, inputs)
    return float(mantissas[0]) * 2.0 ** (constants(attrs, 2).exponent - 15), loss, predicted


def weight_and_target(label: int, attrs: dict[str, Any]) -> tuple[float, float]:
    smoothing = attrs.get("label_smoothing", 0.0)
    return attrs.get("class_weights", (1.0, 1.0))[label], label * (1 - smoothing) + smoothing / 2


def float_loss(z: float, label: int, attrs: dict[str, Any]) -> float:
    weight, target = weight_and_target(label, attrs)
    return weight * (max(z, 0) - z * target + math.log1p(math.exp(-abs(z))))


def gradient_bound(label: int, attrs: dict[str, Any]) -> float:
    """Two exponentials of 3 units each and 1 more, one quotient of half a unit of 2^-15, one rounding to mantissas of
    which 1 - 2^-15 is the largest; targets and factors are finer."""
    weight, _ = weight_and_target(label, attrs)
    return weight * 8 * UNIT + 2.0 ** (constants(attrs, 2).exponent - 15) * 1.5 + factor_error(attrs, 2)


def loss_bound(real: float, want: float, label: int, attrs: dict[str, Any]) -> float:
    """The logarithm of two exponentials; a target rounded to 2^-30 of the distance; the factor; one rounding."""
    weight, _ = weight_and_target(label, attrs)
    return weight * (8 * UNIT + abs(real) * 2.0**-30) + want / weight * factor_error(attrs, 2) + UNIT


def check(z: int, label: int, attrs: dict[str, Any]) -> None:
    gradient, loss, predicted = run(z, label, attrs)
    weight, target = weight_and_target(label, attrs)
    real = z * UNIT
    sigmoid = 1 / (1 + math.exp(-real)) if real > -700 else 0.0
    assert abs(gradient - weight * (sigmoid - target)) <= gradient_bound(label, attrs)
    want = float_loss(real, label, attrs)
    if want < 32767 * min(1.0, weight):
        assert abs(loss * UNIT - want) <= loss_bound(real, want, label, attrs)
    assert predicted == (z > 0)


@given(logits, st.integers(0, 1), st.sampled_from(CASES))
@settings(max_examples=200, deadline=None)
def test_logits_of_any_size(z, label, attrs):
    check(z, label, attrs)


@given(logits, st.integers(0, 1), st.sampled_from(CASES))
@settings(max_examples=100, deadline=None)
def test_it_is_the_softmax_of_zero_and_the_logit(z, label, attrs):
    """To the bit, by the kernel for more classes."""
    pair = loss_graph(
        "softmax_cross_entropy", 2, label_tensor(), {**attrs, "class_weights": attrs.get("class_weights")}
    )
    inputs = {"y": np.array([0, z], np.int32), "label": np.array([label], np.int32)}
    mantissas, loss, predicted, _ = run_loss(pair, inputs)
    gradient, own, own_prediction = run(z, label, attrs)
    assert gradient == float(mantissas[1]) * 2.0 ** (constants(attrs, 2).exponent - 15)
    assert (own, own_prediction) == (loss, predicted)


@pytest.mark.parametrize("attrs", CASES)
@pytest.mark.parametrize("label", [0, 1])
def test_the_gradient_is_the_difference_quotient_of_the_float_loss(label, attrs):
    for z in np.random.default_rng(label).integers(-(9 << 16), 9 << 16, 12):
        want = differences(lambda y: float_loss(float(y[0]), label, attrs), np.array([z * UNIT]))[0]
        assert abs(run(int(z), label, attrs)[0] - want) <= gradient_bound(label, attrs) + 1e-7


@pytest.mark.parametrize("attrs", CASES)
@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_and_its_gradient_are_torchs(label, attrs):
    torch = pytest.importorskip("torch")
    weight, target = weight_and_target(label, attrs)
    for z in np.random.default_rng(label).integers(-(9 << 16), 9 << 16, 12):

        def theirs(y):
            goal = torch.tensor([target], dtype=torch.float64)
            return weight * torch.nn.functional.binary_cross_entropy_with_logits(y, goal, reduction="sum")

        want, value = torch_gradient(theirs, np.array([z * UNIT]))
        gradient, loss, _ = run(int(z), label, attrs)
        assert abs(gradient - want[0]) <= gradient_bound(label, attrs)
        assert abs(loss * UNIT - value) <= loss_bound(z * UNIT, value, label, attrs)


def test_nothing_overflows_at_the_ends(monkeypatch, capfd):
    monkeypatch.setattr(machine_module, "runtime", sanitized_runtime)
    with no_undefined_behaviour(capfd):
        for attrs in CASES:
            for z in EDGES:
                for label in (0, 1):
                    assert run(z, label, attrs)[1] >= 0
    assert run(-(2**31), 1, {}) == (-1.0, 2**31 - 1, 0), "a loss of 32768 nats saturates"
    assert run(2**31 - 1, 1, {}) == (0.0, 0, 1)


def test_zero_is_undecided():
    assert run(0, 1, {}) == (-0.5, round(math.log(2) * 65536), 0)
    assert run(1, 1, {})[2] == 1 and run(-1, 1, {})[2] == 0


def test_other_shapes_are_refused():
    with pytest.raises(GraphError, match="it takes one"):
        loss_graph("binary_cross_entropy", 2, label_tensor())
    with pytest.raises(GraphError, match="3 class_weights, there are 2 classes"):
        loss_graph("binary_cross_entropy", 1, label_tensor(), {"class_weights": (1.0, 2.0, 3.0)})
