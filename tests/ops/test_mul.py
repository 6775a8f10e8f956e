# SPDX-License-Identifier: Apache-2.0
"""mul: C kernel, oracle and LiteRT agree, for gates too; gradients of both operands; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import (
    MANTISSAS,
    ROUNDING,
    assert_is_the_float_gradient,
    away_from_bounds,
    real,
    real_clamp,
    run_gradient,
    widths,
    with_gradient,
)
from tests.ops.litert import assert_equals_litert, float32
from tests.ops.windowed import integers
from tests.oracle import activation, assert_machines_equal_oracle, constant, gradient, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Exponent, Phase, Quantization, Role

zero_points = st.sampled_from([-128, -7, 0, 64, 127])
scales = st.floats(1e-3, 1).map(float32)
EVERY_PAIR = [side.reshape(-1).astype(np.int8) for side in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))]
# a's shape, b's shape
SHAPES = [
    ((3, 4, 5), (3, 4, 5)),
    ((3, 4, 5), (5,)),
    ((2, 2, 7), (1, 1, 7)),
    ((3, 4, 5), (1,)),
    ((6,), (6,)),
    ((1, 1, 1), (1,)),
]


def graph_of(a_shape, b_shape, a, b, y, clamp=(-128, 127), b_data=None):
    second = activation("b", b_shape, *b) if b_data is None else constant("b", b_data, b[0])
    inputs = {"a": activation("a", a_shape, *a), "b": second}
    return one_node("mul", inputs, {"clamp": clamp}, {"quantization": Quantization.per_tensor(*y)})


def certificates():
    a, b = (0.02, 3), (0.05, -9)
    return {
        "equal shapes": graph_of((3, 4, 5), (3, 4, 5), a, b, (0.11, 4)),
        "equal shapes, clamped": graph_of((3, 4, 5), (3, 4, 5), a, b, (0.05, 4), (-50, 100)),
        "a gate": graph_of((3, 4, 5), (1, 1, 5), a, b, (0.11, 4)),
        "one element": graph_of((3, 4, 5), (1,), a, b, (0.11, 4)),
        "a constant": graph_of((3, 4, 5), (5,), a, (0.05, 0), (0.11, 4), b_data=np.array([9, -7, 90, 1, 0], np.int8)),
    }


@given(st.tuples(scales, zero_points), st.tuples(scales, zero_points), st.floats(2.0, 300.0), zero_points)
@settings(max_examples=25, deadline=None)
def test_every_pair_of_values_equals_litert(a, b, steps, zero_point):
    y = float32(a[0] * b[0] * steps)
    values = list(zip(EVERY_PAIR, (a, b), strict=True))
    assert_equals_litert("mul", "MUL", values, (y, zero_point), {"clamp": (-128, 127)})


@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
def test_gates_equal_litert(a_shape, b_shape):
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in (a_shape, b_shape))
    values = [(a, (float32(0.02), -7)), (b, (float32(0.03), 5))]
    assert_equals_litert("mul", "MUL", values, (float32(0.05), -20), {"clamp": (-128, 127)})


# scales whose product and quotient, formed in double precision, would give another byte somewhere
@pytest.mark.parametrize(
    "a, b, scale",
    [
        ((0.7860000133514404, -4), (0.0031999999191612005, -52), 0.0594727098941803),
        ((0.0232900008559227, -71), (0.005530000198632479, -49), 0.017777536064386368),
        ((0.21807000041007996, -27), (0.006599999964237213, 37), 0.2522495985031128),
    ],
)
def test_factor_is_formed_in_single_precision(a, b, scale):
    assert_equals_litert("mul", "MUL", list(zip(EVERY_PAIR, (a, b), strict=True)), (scale, 0), {"clamp": (-128, 127)})


@given(
    st.sampled_from(SHAPES), zero_points, zero_points, st.sampled_from([(-128, 127), (-7, 90), (0, 0)]),
    st.floats(1e-3, 1e3), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_kernel_equals_oracle(shapes, a_zero_point, b_zero_point, clamp, y_scale, seed):
    rng = np.random.default_rng(seed)
    graph = graph_of(*shapes, (1.0, a_zero_point), (1.0, b_zero_point), (y_scale, 3), clamp)
    samples = {name: rng.choice([-128, -1, 0, 127], graph[name].shape).astype(np.int8) for name in ("a", "b")}
    assert_machines_equal_oracle(graph, samples)


@given(
    st.sampled_from(["mul_gradient", "mul_channel_gradient"]), st.integers(1, 300), st.integers(1, 9), st.booleans(),
    zero_points, st.floats(1e-6, 1e6), st.sampled_from([-96, -20, 0, 96]), widths, st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=90, deadline=None)
def test_gradient_kernels_equal_oracle(op, pixels, channels, extreme, zero_point, scale, start, dtype, seed):
    rng = np.random.default_rng(seed)
    shape, few = (1, pixels, channels), (channels,)
    other, gx_shape = (few, shape) if op == "mul_gradient" else (shape, few)
    inputs = {"gy": gradient("gy", shape, -7, dtype), "other": activation("other", other, scale, zero_point)}
    fields = {"role": Role.GRADIENT, "exponent": Exponent("state")}
    graph = one_node(op, inputs, {"x_shape": gx_shape}, fields, Phase.BACKWARD, (start, 0, 0))
    samples = {
        "gy": integers(rng, shape, dtype, True) if extreme else rng.integers(-50, 50, shape, dtype),
        "other": rng.choice([-128, 127], other).astype(np.int8),
    }
    assert_machines_equal_oracle(graph, samples, steps=3)


def test_the_longest_sums_of_a_channel_do_not_wrap():
    shape = (30, 30, 2)
    inputs = {"gy": gradient("gy", shape), "other": activation("other", shape, 1.0, -128)}
    fields = {"role": Role.GRADIENT, "exponent": Exponent("state")}
    graph = one_node("mul_channel_gradient", inputs, {"x_shape": (2,)}, fields, Phase.BACKWARD, (20, 0, 0))
    samples = {"gy": np.full(shape, -32768, np.int16), "other": np.full(shape, 127, np.int8)}
    values = assert_machines_equal_oracle(graph, samples, steps=2)
    assert values["y"][0] * 2.0 ** int(values["state"][0]) == pytest.approx(-900 * 32768 * 255, rel=1e-3)


@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 40)])
@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
@pytest.mark.parametrize("dtype", MANTISSAS)
def test_gradients_are_the_float_gradients(dtype, a_shape, b_shape, clamp):
    rng = np.random.default_rng(3)
    graph = graph_of(a_shape, b_shape, (0.02, 3), (0.05, -9), (0.03, 5), clamp)
    samples = {name: rng.integers(-128, 128, graph[name].shape).astype(np.int8) for name in ("a", "b")}
    inputs = [real(graph, name, samples[name]) for name in ("a", "b")]
    gy = integers(rng, a_shape, dtype, False)
    gy = away_from_bounds(graph, inputs[0] * inputs[1], clamp, gy)
    got, units, _ = run_gradient(graph, samples, gy)
    low, high = real_clamp(graph, clamp)
    # the rounding of the result, and the other operand's scale as a Q15 factor
    bounds = [ROUNDING[dtype] * unit + np.abs(gradient) * 2.0**-15 for unit, gradient in zip(units, got, strict=True)]
    real_gy = gy * 2.0**-12
    assert_is_the_float_gradient(got, lambda a, b: (a * b).clip(low, high), inputs, real_gy, bounds, 1e-5)


def test_only_the_computed_operand_has_a_gradient():
    _, results = with_gradient(graph_of((2, 3), (1,), (0.02, 0), (0.03, 0), (0.05, 0), b_data=np.array([100], np.int8)))
    assert len(results) == 1


@pytest.mark.parametrize("b_shape", [(2, 3, 1), (3,), (2, 1, 4), (1, 3, 4), (4, 1)])
def test_other_broadcasts_are_refused(b_shape):
    with pytest.raises(GraphError, match=r"'mul'[^\n]*does not fit"):
        graph_of((2, 3, 4), b_shape, (0.02, 0), (0.02, 0), (0.04, 0))
