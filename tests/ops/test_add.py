# SPDX-License-Identifier: Apache-2.0
"""add: C kernel, oracle and LiteRT agree; its gradient reaches both branches; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import (
    MANTISSAS,
    assert_is_the_float_gradient,
    away_from_bounds,
    real,
    real_clamp,
    run_gradient,
    with_gradient,
)
from tests.ops.litert import assert_equals_litert, float32
from tests.ops.windowed import integers
from tests.oracle import activation, assert_machines_equal_oracle, constant, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization, to_text
from tinytrain.memory import lay_out

zero_points = st.sampled_from([-128, -7, 0, 64, 127])
scales = st.floats(1e-3, 1).map(float32)
EVERY_PAIR = [side.reshape(-1).astype(np.int8) for side in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))]


def graph_of(a_shape, b_shape, a, b, y, clamp=(-128, 127), b_data=None):
    second = activation("b", b_shape, *b) if b_data is None else constant("b", b_data, b[0])
    inputs = {"a": activation("a", a_shape, *a), "b": second}
    return one_node("add", inputs, {"clamp": clamp}, {"quantization": Quantization.per_tensor(*y)})


def certificates():
    a, b = (0.02, 3), (0.05, -9)
    return {
        "two scales": graph_of((3, 2, 5), (3, 2, 5), a, b, (0.08, 5)),
        "clamped": graph_of((3, 2, 5), (3, 2, 5), a, b, (0.03, 5), (-20, 40)),
        "a constant": graph_of((3, 2, 5), (1,), a, (0.03, 0), (0.03, 0), b_data=np.array([100], np.int8)),
    }


@given(st.tuples(scales, zero_points), st.tuples(scales, zero_points), st.tuples(scales, zero_points), st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_pair_of_values_equals_litert(a, b, y, one_element):
    first, second = EVERY_PAIR
    values = [(first, a), (second[-1:] if one_element else second, b)]
    assert_equals_litert("add", "ADD", values, y, {"clamp": (-128, 127)})


# scales whose quotients, formed in float32, would give another byte somewhere
@pytest.mark.parametrize(
    "a, b, scale",
    [
        ((0.9690399765968323, -75), (0.7047563195228577, -63), 0.5976458191871643),
        ((0.0021699999924749136, -105), (0.0015189999248832464, -78), 0.004869268275797367),
        ((0.002950000111013651, -73), (0.0019666668958961964, -117), 0.0021340425591915846),
        ((0.0006606508977711201, -63), (0.0038499999791383743, -119), 0.01598179340362549),
        ((0.0008016806677915156, -86), (0.004769999999552965, -91), 0.01982823573052883),
    ],
)
def test_quotients_of_scales_are_formed_in_double_precision(a, b, scale):
    values = list(zip(EVERY_PAIR, (a, b), strict=True))
    assert_equals_litert("add", "ADD", values, (scale, -128), {"clamp": (-128, 127)})


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9)), st.booleans(), zero_points,
    st.sampled_from([(-128, 127), (-7, 90), (0, 0)]), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_kernel_equals_oracle(shape, one_element, zero_point, clamp, seed):
    rng = np.random.default_rng(seed)
    b_shape = (1,) if one_element else shape
    graph = graph_of(shape, b_shape, (0.02, zero_point), (0.05, -3), (0.04, zero_point), clamp)
    samples = {name: rng.integers(-128, 128, graph[name].shape).astype(np.int8) for name in ("a", "b")}
    y = assert_machines_equal_oracle(graph, samples)["y"]
    assert y.min() >= clamp[0] and y.max() <= clamp[1]


def test_the_sum_takes_over_the_bytes_of_an_operand():
    graph = graph_of((4, 4, 8), (4, 4, 8), (0.02, 0), (0.02, 0), (0.04, 0))
    layout = lay_out(graph)
    assert layout.arena == 2 * 128
    assert layout.offsets["y"] in (layout.offsets["a"], layout.offsets["b"])


@pytest.mark.parametrize("dtype", MANTISSAS)
@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 40)])
def test_gradient_reaches_both_branches_where_the_clamp_is_not_active(clamp, dtype):
    rng = np.random.default_rng(1)
    graph = graph_of((3, 2, 5), (3, 2, 5), (0.02, 3), (0.05, -9), (0.03, 5), clamp)
    samples = {name: rng.integers(-128, 128, (3, 2, 5)).astype(np.int8) for name in ("a", "b")}
    inputs = [real(graph, name, samples[name]) for name in ("a", "b")]
    gy = integers(rng, (3, 2, 5), dtype, False)
    gy = away_from_bounds(graph, inputs[0] + inputs[1], clamp, gy)
    got, _, _ = run_gradient(graph, samples, gy)
    low, high = real_clamp(graph, clamp)
    assert_is_the_float_gradient(got, lambda a, b: (a + b).clip(low, high), inputs, gy * 2.0**-12, [0, 0], 1e-4)


def test_a_sum_that_cannot_saturate_needs_no_mask():
    graph, results = with_gradient(graph_of((2, 3), (2, 3), (0.02, 0), (0.02, 0), (0.05, 0)))
    assert results == ["gy", "gy"]
    assert "mask" not in to_text(graph)


def test_gradient_of_a_constant_operand_is_nothing():
    graph = graph_of((2, 3), (1,), (0.02, 0), (0.03, 0), (0.05, 0), b_data=np.array([100], np.int8))
    _, results = with_gradient(graph)
    assert results == ["gy"]


def test_gradient_to_one_computed_element_is_refused():
    with pytest.raises(GraphError, match="add"):
        with_gradient(graph_of((2, 3), (1,), (0.02, 0), (0.03, 0), (0.05, 0)))


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(GraphError, match=r"'add'[^\n]*does not fit") as error:
        graph_of((2, 3), (3,), (0.02, 0), (0.02, 0), (0.04, 0))
    assert "[2, 3]" in error.value.why and "[3]" in error.value.why


def test_scales_too_far_apart_are_refused():
    graph = graph_of((2,), (2,), (0.02, 0), (0.02, 0), (1e-9, 0))
    with pytest.raises(GraphError) as error:
        assert_machines_equal_oracle(graph, {"a": np.zeros(2, np.int8), "b": np.zeros(2, np.int8)})
    assert "scales" in error.value.why
