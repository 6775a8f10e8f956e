# SPDX-License-Identifier: Apache-2.0
"""pad: C kernel, oracle and LiteRT agree; the gradient is cut out again; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import run_gradient, widths, with_gradient
from tests.ops.litert import assert_equals_litert, float32
from tests.ops.windowed import integers, zero_points
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization
from tinytrain.ops.pad import box_args

pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))
shapes = st.lists(st.tuples(st.integers(1, 5), pairs), min_size=1, max_size=3)


def build(shape, padding, zero_point=0):
    x = activation("x", shape, 0.02, zero_point)
    return one_node("pad", {"x": x}, {"padding": padding}, {"quantization": x.quantization})


def split(axes):
    return tuple(extent for extent, _ in axes), tuple(pair for _, pair in axes)


def certificates():
    return {
        "an image": build((4, 3, 5), ((0, 1), (2, 0), (0, 0)), -9),
        "channels, too": build((4, 3, 5), ((0, 1), (2, 0), (1, 2)), 3),
    }


@given(shapes, zero_points, widths, st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_kernels_equal_oracle_and_padding_is_zero(axes, zero_point, dtype, seed):
    shape, padding = split(axes)
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, shape).astype(np.int8)
    forward = build(shape, padding, zero_point)
    y = assert_machines_equal_oracle(forward, {"x": x})["y"]
    assert int(y.astype(int).sum() - x.astype(int).sum()) == zero_point * (y.size - x.size)
    gy = integers(rng, y.shape, dtype, False)
    (got,), (unit,), _ = run_gradient(forward, {"x": x}, gy)
    inside = tuple(slice(before, before + n) for n, (before, _) in axes)
    np.testing.assert_array_equal(got, gy[inside] * 2.0**-12)
    assert unit == 2.0**-12


@given(st.lists(st.tuples(st.integers(1, 5), pairs), min_size=3, max_size=3), zero_points, st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_equals_litert(axes, zero_point, seed):
    shape, padding = split(axes)
    value = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    meaning = (float32(0.02), zero_point)
    table = np.array([(0, 0), *padding], np.int32)
    assert_equals_litert("pad", "PAD", [(value, meaning)], meaning, {"padding": padding}, [table], 1)


def test_inner_dimensions_without_padding_are_copied_in_one_run():
    box = box_args((5, 4, 3), ((1, 1), (2, 0), (0, 0)))["box"]
    assert (box["planes"], box["rows"], box["run"]) == (1, 5, 12)
    assert (box["padded_rows"], box["padded_run"], box["run_before"]) == (7, 18, 6)
    box = box_args((5, 4, 3), ((1, 1), (0, 0), (0, 0)))["box"]
    assert (box["planes"], box["rows"], box["run"], box["padded_run"], box["run_before"]) == (1, 1, 60, 84, 12)


def test_gradient_has_the_exponent_of_its_output():
    graph, (name,) = with_gradient(build((3, 3, 2), ((1, 1), (1, 1), (0, 0))))
    assert graph[name].exponent == graph["gy"].exponent


@pytest.mark.parametrize(
    "shape, padding, why",
    [
        ((2, 3), ((1, 1),), "padding"),
        ((2, 3, 4, 5), ((1, 1),) * 4, "three dimensions"),
        ((2, 3), ((0, 0), (-1, 0)), "takes elements away"),
    ],
)
def test_refusals(shape, padding, why):
    with pytest.raises(GraphError, match="pad") as refusal:
        build(shape, padding)
    assert why in str(refusal.value)


def test_another_output_scale_is_refused():
    x = activation("x", (4, 2), 0.02, 3)
    graph = one_node("pad", {"x": x}, {"padding": ((1, 1), (0, 0))}, {"quantization": Quantization.per_tensor(0.02, 4)})
    with pytest.raises(GraphError, match="pad"):
        assert_machines_equal_oracle(graph, {"x": np.zeros((4, 2), np.int8)})
