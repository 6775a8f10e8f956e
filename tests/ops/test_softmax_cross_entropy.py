# SPDX-License-Identifier: Apache-2.0
"""softmax_cross_entropy: C equals the oracle over extremes, and both are within a few units of the float ones."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import assert_machines_equal_oracle
from tinytrain.errors import GraphError
from tinytrain.graph import Graph, Node, Phase, Role, Tensor, verify
from tinytrain.ops import add_node
from tinytrain.ops.fixed_point import FARTHEST, exp_q16, log_q16

UNIT = 2.0**-16
EDGES = [-(2**31), -(2**31) + 1, -(24 << 16), -1, 0, 1, 65536, 24 << 16, 2**31 - 2, 2**31 - 1]


def graph_of(classes: int, dtype: str = "int32") -> Graph:
    graph = Graph("loss", inputs=["logits"], outputs=["gradient"])
    graph.add_tensor(Tensor("logits", (classes,), dtype))
    graph.add_tensor(Tensor("label", (1,), "int32", Role.STATE))
    graph.add_tensor(Tensor("result", (2,), "int32", Role.STATE))
    node = Node(
        "softmax_cross_entropy", "loss", ("logits", "label", "result"), ("gradient", "result'"), phase=Phase.LOSS
    )
    add_node(graph, node, role=Role.GRADIENT)
    graph.tensors["result'"] = graph["result'"].but(role=Role.STATE, alias_of="result")
    return verify(graph)


def run(logits: np.ndarray, label: int) -> tuple[np.ndarray, int, int]:
    """(gradient, loss, prediction), C and oracle agreeing."""
    inputs = {"logits": logits.astype(np.int32), "label": np.array([label], np.int32)}
    values = assert_machines_equal_oracle(graph_of(logits.size), inputs)
    return values["gradient"], int(values["result'"][0]), int(values["result'"][1])


def check_against_float(logits: np.ndarray, label: int) -> None:
    """exp has an error of 3 units of itself and 1 unit; a sum of N of them, its logarithm and quotients follow."""
    gradient, loss, predicted = run(logits, label)
    z = logits.astype(np.float64) * UNIT
    powers = np.exp(z - z.max())
    total = powers.sum()
    relative = (3 + z.size / total) * UNIT
    want = z.max() - z[label] + math.log(total)
    assert abs(loss * UNIT - min(want, 32768)) <= relative + 3 * UNIT
    probability = powers / total
    expected = probability - (np.arange(z.size) == label)
    error = np.abs(gradient * 2.0**-15 - expected)
    # half a unit of 2^-15 for the quotient; 1 - 2^-15 stands for 1
    assert np.all(error <= UNIT + probability * (relative + 3 * UNIT) + UNIT + (expected > 1 - 2.0**-15) * 2.0**-15)
    assert predicted == int(np.argmax(logits))


@given(
    st.lists(st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1)), min_size=2, max_size=12), st.data()
)
@settings(max_examples=150, deadline=None)
def test_logits_of_any_size(values, data):
    check_against_float(np.array(values, np.int64), data.draw(st.integers(0, len(values) - 1)))


@given(st.integers(2, 40), st.floats(0.001, 12), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_logits_as_they_occur(classes, spread, seed):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(0, spread, classes) * 65536).astype(np.int64)
    check_against_float(np.clip(logits, -(2**31), 2**31 - 1), int(rng.integers(classes)))


@pytest.mark.parametrize("classes", [2, 10, 101, 1000, 65535])
def test_equal_logits_share_the_probability(classes):
    for value in (-(2**31), 0, 2**31 - 1):
        gradient, loss, predicted = run(np.full(classes, value), 1)
        share = round(32768 / classes)
        assert gradient[1] == share - 32768 and set(np.delete(gradient, 1).tolist()) == {share}
        assert abs(loss * UNIT - math.log(classes)) < 2 * UNIT + math.log(classes) * 1e-5
        assert predicted == 0, "of equals the first"


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_gradients_sum_to_nearly_zero(classes):
    """Each of N quotients is off by at most half a unit."""
    rng = np.random.default_rng(classes)
    for _ in range(20):
        gradient, _, _ = run(np.round(rng.normal(0, 3, classes) * 65536), int(rng.integers(classes)))
        assert abs(int(gradient.astype(np.int64).sum())) <= classes / 2 + 1


def test_a_certain_and_right_answer_has_neither_loss_nor_gradient():
    gradient, loss, predicted = run(np.array([0, 40 << 16, 0]), 1)
    assert gradient.tolist() == [0, 0, 0] and loss == 0 and predicted == 1


def test_a_certain_and_wrong_answer_has_the_largest_gradient():
    gradient, loss, _ = run(np.array([-(2**31), 2**31 - 1]), 0)
    assert gradient.tolist() == [-32768, 32767]
    assert loss == 2**31 - 1  # saturated: 65536 at most in reals


def test_the_loss_falls_as_the_right_logit_rises():
    losses = [run(np.array([z, 0, 1000]), 0)[1] for z in range(-(10 << 16), 10 << 16, 1 << 13)]
    assert all(a >= b for a, b in pairwise(losses)) and losses[0] > losses[-1] >= 0


def test_exp_is_exact_to_three_units_over_its_range():
    for t in [*range(0, 200), *range(200, FARTHEST + 70000, 997)]:
        exact = math.exp(-t * UNIT)
        assert abs(exp_q16(t) * UNIT - exact) <= (3 * exact + 1) * UNIT, t
    assert exp_q16(0) == 65536


def test_log_is_exact_to_three_units_over_its_range():
    for x in [65536, 65537, 2 * 65536 - 1, 2 * 65536, 3 << 16, 1000 << 16, 65535 << 16, 2**32 - 1]:
        assert abs(log_q16(x) * UNIT - math.log(x * UNIT)) <= 3 * UNIT, x
    assert log_q16(65536) == 0


def test_logits_that_are_not_int32_are_refused():
    with pytest.raises(GraphError, match="loss"):
        graph_of(3, "int8")
    with pytest.raises(GraphError, match="loss"):
        graph_of(65536)
