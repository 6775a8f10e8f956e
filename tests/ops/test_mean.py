# SPDX-License-Identifier: Apache-2.0
"""mean: C kernel, oracle and LiteRT agree over any neighbouring axes; the gradient spreads evenly; refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import assert_is_the_float_gradient, real, run_gradient, widths, with_gradient
from tests.ops.litert import assert_equals_litert, float32
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization, to_text
from tinytrain.ops.rescale import q15

zero_points = st.sampled_from([-128, -7, 0, 64, 127])
scales = st.floats(1e-3, 1).map(float32)
images = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 9))
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)]


def graph_of(shape, axes, x=(0.02, 0), y=(0.02, 0), keepdims=False, **attrs):
    inputs = {"x": activation("x", shape, *x)}
    attrs = {"axes": axes, "keepdims": keepdims, **attrs}
    return one_node("mean", inputs, attrs, {"quantization": Quantization.per_tensor(*y)})


def certificates():
    return {
        "over 7 x 7": graph_of((7, 7, 5), (0, 1), (0.02, 3), (0.01, -7)),
        "over 6 of 3, clamped": graph_of((3, 6, 5), (1,), (0.02, 3), (0.005, -7)),
        "of everything": graph_of((3, 4, 5), (0, 1, 2), (0.02, 3), (0.02, 3), True),
    }


@given(
    images, st.sampled_from(AXES), st.booleans(), st.tuples(scales, zero_points), st.floats(0.2, 20), zero_points,
    st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_litert(shape, axes, keepdims, x, ratio, zero_point, seed):
    """Where scales are equal, and where they are not."""
    rng = np.random.default_rng(seed)
    value = np.clip(rng.normal(rng.integers(-99, 99), 30, shape), -128, 127).astype(np.int8)
    y = (x[0] if ratio < 1 else float32(x[0] / ratio * 2), zero_point)
    attrs = {"axes": axes, "keepdims": keepdims}
    litert_axes = np.array([axis + 1 for axis in axes], np.int32)
    assert_equals_litert("mean", "MEAN", [(value, x)], y, attrs, [litert_axes], 1, KeepDims=keepdims)


# scales whose quotient, formed in float32, would give another byte somewhere
@pytest.mark.parametrize(
    "x, scale",
    [((0.3172599971294403, -123), 0.8127185106277466), ((0.004339999984949827, -102), 0.002164720091968775)],
)
def test_quotient_of_scales_is_formed_in_double_precision(x, scale):
    sums = np.arange(-128 * 6, 127 * 6 + 1)
    value = np.stack([(sums + part) // 6 for part in range(6)], axis=1).astype(np.int8)
    attrs = {"axes": (1,), "keepdims": False}
    assert_equals_litert("mean", "MEAN", [(value, x)], (scale, -128), attrs, [np.array([2], np.int32)], 1)


@given(images, st.sampled_from(AXES), zero_points, st.sampled_from([-128, 127, None]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_kernel_equals_oracle(shape, axes, zero_point, constant, seed):
    graph = graph_of(shape, axes, (0.02, zero_point), (0.013, -zero_point - 1), clamp=(-100, 90))
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, shape).astype(np.int8) if constant is None else np.full(shape, constant, np.int8)
    assert_machines_equal_oracle(graph, {"x": x})


def test_a_mean_of_everything_is_one_element():
    assert graph_of((2, 3, 4), (0, 1, 2))["y"].shape == (1,)
    assert graph_of((2, 3, 4), (0, 1, 2), keepdims=True)["y"].shape == (1, 1, 1)


@given(images, st.sampled_from(AXES), st.booleans(), widths, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_gradient_is_the_float_gradient(shape, axes, keepdims, dtype, seed):
    graph = graph_of(shape, axes, (0.02, 3), (0.02, 3), keepdims)
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, shape).astype(np.int8)
    gy = rng.choice(np.array([np.iinfo(dtype).min, -5, 7, np.iinfo(dtype).max], dtype), graph["y"].shape)
    (got,), (unit,), _ = run_gradient(graph, {"x": x}, gy)

    def average(x):
        return x.mean(axes).reshape(graph["y"].shape)

    # a rounding, and the Q15 factor: up to a step of int16, little of an int8 one
    bound = unit * {"int16": 1.5, "int8": 1.01}[dtype]
    assert_is_the_float_gradient([got], average, [real(graph, "x", x)], gy * 2.0**-12, [bound], 1e-4)


def test_a_mean_that_cannot_saturate_needs_no_mask():
    same, _ = with_gradient(graph_of((2, 3, 4), (0, 1)))
    assert "mask" not in to_text(same)
    narrower, _ = with_gradient(graph_of((2, 3, 4), (0, 1), y=(0.01, 0)))
    assert "mask" in to_text(narrower)


@given(st.floats(1e-30, 1e30))
def test_a_q15_factor_keeps_15_bits(value):
    factor, k = q15(value)
    assert 16384 < factor <= 32768
    assert abs(math.ldexp(factor, k - 15) - value) <= math.ldexp(0.5, k - 15)


@pytest.mark.parametrize("axes", [(0, 2), (1, 0), (), (2, 3), (-1,)])
def test_axes_that_are_not_neighbours_are_refused(axes):
    with pytest.raises(GraphError, match=r"'mean'[^\n]*does not fit"):
        graph_of((2, 3, 4), axes)
