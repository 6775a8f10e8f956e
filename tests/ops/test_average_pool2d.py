# SPDX-License-Identifier: Apache-2.0
"""average_pool2d: C kernel, oracle and LiteRT agree; padded cells are not counted; the gradient is shared out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frontends.tflite_file import SAME, VALID
from tests.ops.gradients import (
    ROUNDING,
    STEPS,
    assert_is_the_float_gradient,
    away_from_bounds,
    real,
    real_clamp,
    run_gradient,
    widths,
    with_gradient,
)
from tests.ops.litert import assert_equals_litert, float32
from tests.ops.windowed import cells, cells_of, integers, like, outputs_of, pool_cases, window_attrs, zero_points
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization

SCALE = 0.02
clamps = st.sampled_from([(-128, 127), (-60, 70)])
small = {"size": st.tuples(st.integers(1, 6), st.integers(1, 5)), "channels": st.integers(1, 3)}
GLOBAL = {"size": (7, 7), "channels": 3, "kernel": (7, 7), "strides": (1, 1), "padding": (0, 0, 0, 0),
          "zero_point": 3, "extreme": False, "seed": 3}  # fmt: skip


def build(case, clamp=(-128, 127)):
    x = activation("x", (*case["size"], case["channels"]), SCALE, case["zero_point"])
    attrs = {"kernel": case["kernel"], **window_attrs(case), "clamp": clamp}
    graph = one_node("average_pool2d", {"x": x}, attrs, {"quantization": x.quantization})
    return graph, integers(np.random.default_rng(case["seed"]), x.shape, np.int8, case["extreme"])


def certificates():
    def case(size, kernel, strides, padding=(0, 0, 0, 0), clamp=(-128, 127)):
        case = {**GLOBAL, "size": size, "kernel": kernel, "strides": strides, "padding": padding}
        return build(case, clamp)[0]

    return {
        "2 x 2, stride 2": case((6, 6), (2, 2), (2, 2)),
        "7 x 7, global": case((7, 7), (7, 7), (1, 1)),
        "3 x 3, stride 2, padding 1": case((6, 5), (3, 3), (2, 2), (1, 1, 1, 1)),
        "3 x 2, stride 1, clamped": case((5, 6), (3, 2), (1, 1), (0, 1, 1, 0), (-20, 30)),
    }


@given(pool_cases(), clamps)
@settings(max_examples=60, deadline=None)
def test_forward_kernel_equals_oracle(case, clamp):
    graph, sample = build(case, clamp)
    assert_machines_equal_oracle(graph, {"x": sample})


def same_padding(extent, kernel, stride):
    total = max(0, (-(-extent // stride) - 1) * stride + kernel - extent)
    return total // 2, total - total // 2


@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 5)), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans(), zero_points, st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_equals_litert(shape, kernel, strides, same, zero_point, seed):
    kernel = tuple(min(k, extent) for k, extent in zip(kernel, shape, strict=False))
    value = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    rows, columns = (same_padding(*sizes) for sizes in zip(shape, kernel, strides, strict=False))
    meaning = (float32(SCALE), zero_point)
    attrs = {"kernel": kernel, "strides": strides, "padding": (*rows, *columns) if same else (0, 0, 0, 0)}
    assert_equals_litert(
        "average_pool2d", "AVERAGE_POOL_2D", [(value, meaning)], meaning, {**attrs, "clamp": (-128, 127)}, batch=1,
        Padding=SAME if same else VALID, StrideH=strides[0], StrideW=strides[1], FilterHeight=kernel[0],
        FilterWidth=kernel[1],
    )  # fmt: skip


def test_halves_are_rounded_away_from_zero():
    graph, _ = build({**GLOBAL, "size": (1, 2), "kernel": (1, 2), "channels": 4})
    x = np.array([[[1, -1, 3, -3], [0, 0, 0, 0]]], np.int8)
    assert assert_machines_equal_oracle(graph, {"x": x})["y"].tolist() == [[[1, -1, 2, -2]]]


@given(pool_cases(), clamps, widths)
@settings(max_examples=80, deadline=None)
def test_gradient_kernel_equals_oracle(case, clamp, dtype):
    forward, sample = build(case, clamp)
    graph, _ = with_gradient(forward, dtype=dtype)
    gy = integers(np.random.default_rng(case["seed"] + 1), forward["y"].shape, dtype, case["extreme"])
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


@given(pool_cases(**small), clamps, widths)
@settings(max_examples=40, deadline=None)
def test_gradient_is_the_float_gradient(case, clamp, dtype):
    forward, sample = build({**case, "extreme": False}, clamp)
    x = real(forward, "x", sample)
    low, high = real_clamp(forward, clamp)
    gy = integers(np.random.default_rng(case["seed"] + 1), forward["y"].shape, dtype, False)
    if clamp != (-128, 127):
        gy = away_from_bounds(forward, cells(case, x).sum(2) / cells_of(case)[:, :, None], clamp, gy)
    (got,), (unit,), _ = run_gradient(forward, {"x": sample}, gy)

    def function(x):
        return (cells(case, x).sum(2) / like(x, cells_of(case)[:, :, None])).clip(low - 1e-3, high + 1e-3)

    # per window half a unit of its scaled gradient and half a unit of its factor; then the rounding of the sum
    window = 2.0**-12 / 2 ** np.floor(np.log2(cells_of(case).min())) * {"int16": 1, "int8": 2.0**-8}[dtype]
    bound = unit * ROUNDING[dtype] + np.prod(case["kernel"]) * window
    assert_is_the_float_gradient([got], function, [x], gy * 2.0**-12, [bound], 1e-4)


def test_a_global_pool_keeps_the_precision_of_its_gradient():
    """1 / 49 is taken as 2^-5 times a factor near 1: no bits are lost, and no exponent has to follow."""
    graph, (name,) = with_gradient(build(GLOBAL)[0])
    assert [node.op for node in graph.nodes] == ["average_pool2d", "average_pool2d_gradient"]
    assert graph[name].exponent.state is None and graph[name].exponent.offset == -12 - 5
    (got,), (unit,), _ = run_gradient(build(GLOBAL)[0], {"x": build(GLOBAL)[1]}, np.full((1, 1, 3), 32767, np.int16))
    np.testing.assert_allclose(got, 32767 * 2.0**-12 / 49, atol=unit)


def test_eight_bits_are_rounded_once_under_an_exponent_of_their_own():
    graph, (name,) = with_gradient(build(GLOBAL)[0], dtype="int8")
    assert graph[name].dtype == "int8" and graph[name].exponent.state is not None
    (got,), (unit,), _ = run_gradient(build(GLOBAL)[0], {"x": build(GLOBAL)[1]}, np.full((1, 1, 3), 3, np.int8))
    assert unit < 3 * 2.0**-12 / 49 / 32, "three units of gy become many of gx"
    np.testing.assert_allclose(got, 3 * 2.0**-12 / 49, atol=unit)


def test_where_windows_overlap_the_sums_have_an_exponent_of_their_own():
    graph, (name,) = with_gradient(build({**GLOBAL, "kernel": (2, 2)})[0])
    assert graph[name].exponent.state is not None
    graph, (name,) = with_gradient(build({**GLOBAL, "kernel": (2, 2), "strides": (2, 3)})[0])
    assert graph[name].exponent.state is None


def test_a_window_in_the_padding_is_refused():
    with pytest.raises(GraphError, match="average_pool2d") as refusal:
        build({**GLOBAL, "kernel": (2, 2), "padding": (2, 0, 0, 0)})
    assert "wholly in the padding" in str(refusal.value)


def test_a_window_larger_than_the_input_is_refused():
    with pytest.raises(GraphError, match="average_pool2d"):
        build({**GLOBAL, "kernel": (8, 7)})


@pytest.mark.parametrize("op", ["average_pool2d", "max_pool2d"])
def test_another_output_scale_is_refused(op):
    x = activation("x", (4, 4, 2), 0.02, 3)
    graph = one_node(op, {"x": x}, {"kernel": (2, 2)}, {"quantization": Quantization.per_tensor(0.03, 3)})
    with pytest.raises(GraphError, match=op) as refusal:
        assert_machines_equal_oracle(graph, {"x": np.zeros((4, 4, 2), np.int8)})
    assert "0.02" in str(refusal.value) and "0.03" in str(refusal.value)


def test_outputs_of_a_case_are_those_of_the_operator():
    assert outputs_of(GLOBAL) == build(GLOBAL)[0]["y"].shape[:2]
