# SPDX-License-Identifier: Apache-2.0
"""gradient_add: the sum of two gradients with exponents of their own."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import ROUNDING, widths
from tests.ops.windowed import integers
from tests.oracle import assert_machines_equal_oracle, gradient, one_node
from tinytrain.graph import Exponent, Graph, Phase, Role, verify
from tinytrain.memory import lay_out

exponents = st.sampled_from([-96, -41, -25, -24, -20, -1, 0, 96])


def graph_of(size: int, a: int, b: int, start: tuple[int, int, int] = (-20, 0, 0), dtype: str = "int16") -> Graph:
    inputs = {"a": gradient("a", (size,), a, dtype), "b": gradient("b", (size,), b, dtype)}
    return one_node(
        "gradient_add", inputs, {}, {"role": Role.GRADIENT, "exponent": Exponent("state")}, Phase.BACKWARD, start
    )


@given(st.integers(1, 30), exponents, exponents, st.sampled_from([-96, -20, 0, 96]), widths, st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_kernel_equals_oracle(size, a, b, start, dtype, seed):
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    values = {name: rng.choice(np.array([limits.min, -77, -1, 0, 1, limits.max], dtype), size) for name in "ab"}
    assert_machines_equal_oracle(graph_of(size, a, b, (start, 0, 0), dtype), values, steps=3)


@given(st.integers(-30, 10), st.integers(-24, 24), widths, st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_the_sum_is_right_to_a_rounding_of_the_result(a, distance, dtype, seed):
    """Also where the exponents lie as far apart as the guard bits reach."""
    b = a + distance
    rng = np.random.default_rng(seed)
    values = {name: integers(rng, (40,), dtype, False) for name in "ab"}
    result = assert_machines_equal_oracle(graph_of(40, a, b, dtype=dtype), values, steps=3)
    unit = 2.0 ** int(result["state"][0])
    want = values["a"] * 2.0**a + values["b"] * 2.0**b
    assert np.abs(result["y"] * unit - want).max() <= unit * ROUNDING[dtype]
    assert np.abs(result["y"]).max() >= (np.iinfo(dtype).max + 1) / 4 * 0.9, "the result uses its bits"


def test_a_much_smaller_gradient_is_rounded_away_and_not_wrapped():
    values = {"a": np.array([20000, -20000], np.int16), "b": np.array([32767, -32768], np.int16)}
    result = assert_machines_equal_oracle(graph_of(2, 0, -90), values, steps=3)
    unit = 2.0 ** int(result["state"][0])
    assert (result["y"] * unit).tolist() == [20000, -20000]


def test_the_result_may_lie_on_either_operand():
    for kept in "ab":
        graph = graph_of(6, -3, -5)
        graph.outputs.append(kept)  # the other one is free
        offsets = lay_out(verify(graph)).offsets
        assert offsets["y"] == offsets["b" if kept == "a" else "a"]
        values = {"a": np.arange(6, dtype=np.int16), "b": np.arange(6, 12, dtype=np.int16)}
        assert_machines_equal_oracle(graph, values, steps=2)
