# SPDX-License-Identifier: Apache-2.0
"""requantize: C kernel, oracle and LiteRT agree for ReLUs and changes of scale; the gradient stops at the clamp."""

from __future__ import annotations

import math

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
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization, to_text
from tinytrain.memory import lay_out
from tinytrain.ops.arithmetic import round_half_away

zero_points = st.sampled_from([-128, -7, 0, 64, 127])
scales = st.floats(1e-3, 1).map(float32)
EVERY_VALUE = np.arange(-128, 128).astype(np.int8)
FULL = (-128, 127)
# scales whose quotient gives another byte somewhere if it is formed in the other precision
TELLING_SCALES = [
    ((0.0017500000540167093, -92), (0.0029597317334264517, -80)),
    ((0.03683999925851822, -38), (0.07274139672517776, -8)),
    ((0.1206900030374527, -10), (0.18174494802951813, -32)),
]


def integer_clamp(scale: float, zero_point: int, low: float, high: float) -> tuple[int, int]:
    """The integers of a real activation range [low, high], within [-128, 127]."""
    low_q = -128 if math.isinf(low) else max(-128, zero_point + round_half_away(low / scale))
    high_q = 127 if math.isinf(high) else min(127, zero_point + round_half_away(high / scale))
    return low_q, high_q


def graph_of(shape, x, y, clamp=FULL, **attrs):
    fields = {"quantization": Quantization.per_tensor(*y)}
    return one_node("requantize", {"x": activation("x", shape, *x)}, {"clamp": clamp, **attrs}, fields)


def certificates():
    return {
        "to a smaller scale": graph_of((6, 7), (0.05, 3), (0.03, 5)),
        "ReLU": graph_of((6, 7), (0.05, 3), (0.03, -128), (-128, 127), ratio="float32"),
        "ReLU6": graph_of((6, 7), (0.05, 3), (0.05, -100), (-100, 20), ratio="float32"),
    }


@given(st.tuples(scales, zero_points), st.tuples(scales, zero_points), st.sampled_from(["QUANTIZE", "RELU", "RELU6"]))
@settings(max_examples=60, deadline=None)
def test_every_value_equals_litert(x, y, code):
    low, high = {"QUANTIZE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU6": (0, 6)}[code]
    attrs = {"clamp": integer_clamp(*y, low, high), "ratio": "double" if code == "QUANTIZE" else "float32"}
    assert_equals_litert("requantize", code, [(EVERY_VALUE, x)], y, attrs)


@pytest.mark.parametrize("x, y", TELLING_SCALES)
@pytest.mark.parametrize("code, ratio", [("QUANTIZE", "double"), ("RELU", "float32")])
def test_quotient_of_scales_has_the_precision_of_litert(x, y, code, ratio):
    clamp = FULL if code == "QUANTIZE" else (y[1], 127)
    assert_equals_litert("requantize", code, [(EVERY_VALUE, x)], y, {"clamp": clamp, "ratio": ratio})


@given(st.floats(1e-30, 1e6), zero_points, zero_points, st.sampled_from([FULL, (-5, 5), (127, 127)]))
@settings(max_examples=40, deadline=None)
def test_kernel_equals_oracle(ratio, x_zero_point, y_zero_point, clamp):
    graph = graph_of((16, 16), (ratio, x_zero_point), (1.0, y_zero_point), clamp)
    assert_machines_equal_oracle(graph, {"x": EVERY_VALUE.reshape(16, 16)})


def test_the_same_scale_changes_nothing_and_takes_no_bytes():
    graph = graph_of((256,), (0.37, -5), (0.37, -5))
    assert lay_out(graph).arena == 256
    values = assert_machines_equal_oracle(graph, {"x": EVERY_VALUE})
    np.testing.assert_array_equal(values["y"], EVERY_VALUE)


@pytest.mark.parametrize("dtype", MANTISSAS)
@pytest.mark.parametrize("clamp", [FULL, (-128, 40), (5, 90)])
def test_gradient_passes_where_the_clamp_is_not_active(clamp, dtype):
    graph = graph_of((16, 16), (0.05, 3), (0.03, 5), clamp)
    x = EVERY_VALUE.reshape(16, 16)
    reals = real(graph, "x", x)
    gy = integers(np.random.default_rng(1), (16, 16), dtype, False)
    gy = away_from_bounds(graph, reals, clamp, gy)
    got, _, _ = run_gradient(graph, {"x": x}, gy)
    low, high = real_clamp(graph, clamp)
    assert_is_the_float_gradient(got, lambda x: x.clip(low, high), [reals], gy * 2.0**-12, [0], 1e-4)


def test_a_widening_of_scale_needs_no_mask():
    graph, results = with_gradient(graph_of((4,), (0.01, 0), (0.02, 0)))
    assert results == ["gy"] and "mask" not in to_text(graph)


@pytest.mark.parametrize("ratio", [1e7, float("inf"), 0.0])
def test_scales_too_far_apart_are_refused(ratio):
    graph = graph_of((4,), (ratio, 0), (1.0, 0))
    with pytest.raises(GraphError) as error:
        assert_machines_equal_oracle(graph, {"x": np.zeros(4, np.int8)})
    assert "factor" in error.value.why
