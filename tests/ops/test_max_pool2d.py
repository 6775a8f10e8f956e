# SPDX-License-Identifier: Apache-2.0
"""max_pool2d: C kernel, oracle and LiteRT agree; one byte per output says who won; the gradient goes to the winner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frontends.tflite_file import SAME, VALID
from tests.ops.gradients import ROUNDING, STEPS, assert_is_the_float_gradient, real, run_gradient, widths, with_gradient
from tests.ops.litert import assert_equals_litert, float32
from tests.ops.test_average_pool2d import same_padding
from tests.ops.windowed import cells, integers, like, pool_cases, selection, window_attrs, zero_points
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError, SchemeError

clamps = st.sampled_from([(-128, 127), (-60, 70)])
small = {"size": st.tuples(st.integers(1, 6), st.integers(1, 5)), "channels": st.integers(1, 3)}
CASE = {"size": (4, 4), "channels": 1, "kernel": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0),
        "zero_point": 0, "extreme": False, "seed": 3}  # fmt: skip


def build(case, clamp=(-128, 127)):
    x = activation("x", (*case["size"], case["channels"]), 0.02, case["zero_point"])
    attrs = {"kernel": case["kernel"], **window_attrs(case), "clamp": clamp}
    graph = one_node("max_pool2d", {"x": x}, attrs, {"quantization": x.quantization})
    return graph, integers(np.random.default_rng(case["seed"]), x.shape, np.int8, case["extreme"])


def certificates():
    def case(size, kernel, strides, padding=(0, 0, 0, 0), clamp=(-128, 127)):
        case = {**CASE, "size": size, "channels": 3, "kernel": kernel, "strides": strides, "padding": padding}
        return build(case, clamp)[0]

    return {
        "2 x 2, stride 2": case((6, 6), (2, 2), (2, 2)),
        "3 x 3, stride 2, padding 1": case((6, 5), (3, 3), (2, 2), (1, 1, 1, 1)),
        "3 x 2, stride 1, clamped": case((5, 6), (3, 2), (1, 1), (0, 1, 1, 0), (-20, 100)),
    }


@given(pool_cases(), clamps)
@settings(max_examples=60, deadline=None)
def test_forward_kernel_equals_oracle(case, clamp):
    graph, sample = build(case, clamp)
    assert_machines_equal_oracle(graph, {"x": sample})


@given(
    st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 5)), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.booleans(), zero_points, st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_equals_litert(shape, kernel, strides, same, zero_point, seed):
    kernel = tuple(min(k, extent) for k, extent in zip(kernel, shape, strict=False))
    value = np.random.default_rng(seed).integers(-128, -100, shape).astype(np.int8)  # below a padding of zeros
    rows, columns = (same_padding(*sizes) for sizes in zip(shape, kernel, strides, strict=False))
    meaning = (float32(0.02), zero_point)
    attrs = {"kernel": kernel, "strides": strides, "padding": (*rows, *columns) if same else (0, 0, 0, 0)}
    assert_equals_litert(
        "max_pool2d", "MAX_POOL_2D", [(value, meaning)], meaning, {**attrs, "clamp": (-128, 127)}, batch=1,
        Padding=SAME if same else VALID, StrideH=strides[0], StrideW=strides[1], FilterHeight=kernel[0],
        FilterWidth=kernel[1],
    )  # fmt: skip


@given(pool_cases(), clamps, widths)
@settings(max_examples=80, deadline=None)
def test_gradient_kernels_equal_oracle(case, clamp, dtype):
    """Winners among many equal values, too: extreme cases hold -128 and 127 alone."""
    forward, sample = build(case, clamp)
    graph, _ = with_gradient(forward, dtype=dtype)
    gy = integers(np.random.default_rng(case["seed"] + 1), forward["y"].shape, dtype, case["extreme"])
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


@given(pool_cases(**small), widths)
@settings(max_examples=40, deadline=None)
def test_gradient_is_the_float_gradient(case, dtype):
    """Of values that all differ: at equal ones the float gradient is a matter of taste."""
    forward, _ = build(case)
    rng = np.random.default_rng(case["seed"])
    sample = rng.permutation(np.arange(-128, 128))[: forward["x"].size].reshape(forward["x"].shape).astype(np.int8)
    gy = integers(rng, forward["y"].shape, dtype, False)
    (got,), (unit,), _ = run_gradient(forward, {"x": sample}, gy)

    def function(x):
        padded = cells(case, x) - like(x, 1e3 * (1 - selection(case).sum(3))[..., None])
        return padded.max(2) if isinstance(x, np.ndarray) else padded.amax(2)

    bound = unit * ROUNDING[dtype]
    assert_is_the_float_gradient([got], function, [real(forward, "x", sample)], gy * 2.0**-12, [bound], 1e-4)


def test_the_first_of_equal_maxima_wins():
    forward, _ = build(CASE)
    x = np.array([[5, 5, -128, -128], [5, 5, -128, -128], [1, 2, 3, 7], [2, 2, 7, 7]], np.int8)[:, :, None]
    gy = np.array([[1, 2], [3, 4]], np.int16)[:, :, None]
    (got,), (unit,), values = run_gradient(forward, {"x": x}, gy)
    assert values["y.winner"].ravel().tolist() == [0, 0, 1, 1]
    expected = [[1, 0, 2, 0], [0, 0, 0, 0], [0, 3, 0, 4], [0, 0, 0, 0]]
    assert (got[:, :, 0] / unit).tolist() == expected


def test_one_byte_per_output_is_kept():
    graph, (name,) = with_gradient(build(CASE)[0])
    assert [node.op for node in graph.nodes] == ["max_pool2d", "max_pool2d_winner", "max_pool2d_gradient"]
    assert graph["y.winner"].nbytes == graph["y"].size
    assert graph.node("y.winner").inputs == ("x",)
    assert graph[name].exponent == graph["gy"].exponent  # disjoint windows: values only move


def test_a_window_whose_winner_does_not_fit_a_byte_is_not_trained_through():
    forward, sample = build({**CASE, "size": (17, 17), "kernel": (16, 17)})
    assert_machines_equal_oracle(forward, {"x": sample})
    with pytest.raises(SchemeError, match="max_pool2d"):
        with_gradient(forward)


def test_a_window_in_the_padding_is_refused():
    with pytest.raises(GraphError, match="max_pool2d"):
        build({**CASE, "padding": (0, 0, 2, 0)})
