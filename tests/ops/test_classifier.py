# SPDX-License-Identifier: Apache-2.0
"""classifier: int16 weights, exact sums, logits that saturate; its gradients and its update."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import ROUNDING, widths
from tests.ops.update_graphs import run, update_graph
from tests.oracle import activation, assert_machines_equal_oracle, constant, gradient, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Exponent, Graph, Phase, Quantization, Role, Tensor
from tinytrain.ops.conv2d import scaling_error

LIMIT = 127 * 256
cases = st.fixed_dictionaries(
    {
        "inputs": st.sampled_from([(1,), (5,), (255,), (256,), (257,), (2, 3, 4), (1, 1, 40)]),
        "classes": st.sampled_from([2, 3, 10, 101]),
        "zero_point": st.sampled_from([-128, 0, 5, 127]),
        "extreme": st.booleans(),
        "scale": st.sampled_from([1e-9, 1e-5, 1e-3, 0.5, 100.0]),
        "seed": st.integers(0, 2**31),
    }
)


def operands(case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, bias, weight, weight scales)"""
    rng = np.random.default_rng(case["seed"])
    size, classes = int(np.prod(case["inputs"])), case["classes"]
    scales = case["scale"] * rng.uniform(0.1, 1, classes)
    if case["extreme"]:
        x = rng.choice(np.array([-128, 127], np.int8), case["inputs"])
        weight = rng.choice(np.array([-LIMIT, LIMIT], np.int16), (classes, size))
        return x, rng.choice(np.array([-(2**31), 2**31 - 1], np.int32), classes), weight, scales
    x = rng.integers(-128, 127, case["inputs"], endpoint=True).astype(np.int8)
    weight = rng.integers(-LIMIT, LIMIT, (classes, size), endpoint=True).astype(np.int16)
    return x, rng.integers(-(10**6), 10**6, classes).astype(np.int32), weight, scales


def forward_graph(case, bias, weight, scales) -> Graph:
    inputs = {
        "x": activation("x", case["inputs"], 0.02, case["zero_point"]),
        "bias": constant("bias", bias),
        "w": constant("w", weight, scales, 0),
    }
    return one_node("classifier", inputs, {}, {})


def certificates():
    def case(shape, classes, scale, zero_point):
        case = {"inputs": shape, "classes": classes, "zero_point": zero_point, "scale": scale}
        case |= {"extreme": False, "seed": 1}
        _, bias, weight, scales = operands(case)
        return forward_graph(case, bias, weight, scales)

    return {
        "2 classes": case((40,), 2, 1e-3, -128),
        "10 classes": case((1, 1, 64), 10, 1e-3, 5),
        "3 classes, small weights": case((2, 3, 4), 3, 1e-9, 0),
    }


@given(cases)
@settings(max_examples=80, deadline=None)
def test_kernel_equals_oracle_and_logits_are_right(case):
    x, bias, weight, scales = operands(case)
    got = assert_machines_equal_oracle(forward_graph(case, bias, weight, scales), {"x": x})["y"]
    sums = weight.astype(object) @ (x.reshape(-1).astype(object) - case["zero_point"]) + bias.astype(object)
    exact = np.array(sums, np.float64) * 0.02 * scales * 65536
    largest = x.size * 255 * LIMIT + 2**31
    # one rounding where the sum is brought into 32 bits, one at the end; the multiplier has 31 bits
    bound = 0.5 + 0.02 * scales * 65536 * 2.0 ** (largest.bit_length() - 32) + np.abs(exact) * 2.0**-30
    assert np.all(np.abs(got - np.clip(exact, -(2**31), 2**31 - 1)) <= bound)


def test_a_thousand_classes_over_extremes():
    for seed in range(3):
        case = {"inputs": (320,), "classes": 1000, "zero_point": -128, "extreme": True, "scale": 1e-4, "seed": seed}
        x, bias, weight, scales = operands(case)
        assert_machines_equal_oracle(forward_graph(case, bias, weight, scales), {"x": x})


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_do_not_overflow(sign):
    """Every product is as large as it can be, with the same sign: partial sums of 32 bits hold 256 of them."""
    case = {"inputs": (2000,), "classes": 2, "zero_point": -128}
    graph = forward_graph(case, np.zeros(2, np.int32), np.full((2, 2000), sign * LIMIT, np.int16), np.full(2, 1e-10))
    got = assert_machines_equal_oracle(graph, {"x": np.full(2000, 127, np.int8)})["y"]
    assert abs(got[0] - sign * 2000 * 255 * LIMIT * 0.02 * 1e-10 * 65536) < 1


def test_logits_saturate():
    case = {"inputs": (8,), "classes": 2, "zero_point": -128}
    weight = np.stack([np.full(8, LIMIT), np.full(8, -LIMIT)]).astype(np.int16)
    graph = forward_graph(case, np.zeros(2, np.int32), weight, np.full(2, 10.0))
    got = assert_machines_equal_oracle(graph, {"x": np.full(8, 127, np.int8)})["y"]
    assert got.tolist() == [2**31 - 1, -(2**31)]


def input_gradient_graph(case, weight, scales, exponent: int, start: int, dtype: str) -> Graph:
    inputs = {"gy": gradient("gy", (case["classes"],), exponent), "w": constant("w", weight, scales, 0)}
    fields = {"role": Role.GRADIENT, "exponent": Exponent("state")}
    attrs = {"x_shape": case["inputs"], "dtype": dtype}
    return one_node("classifier_input_gradient", inputs, attrs, fields, Phase.BACKWARD, (start, 0, 0))


@given(cases, st.sampled_from([-96, -15, 96]), st.sampled_from([-96, -20, 96]), widths)
@settings(max_examples=120, deadline=None)
def test_input_gradient_equals_oracle_and_the_float_gradient(case, exponent, start, dtype):
    """The gradient of the loss has 16 bits; that of the input has either width."""
    _, _, weight, scales = operands(case)
    rng = np.random.default_rng(case["seed"] + 1)
    edges = np.array([-32768, 32767], np.int16)
    gy = (
        rng.choice(edges, case["classes"])
        if case["extreme"]
        else rng.integers(-9999, 9999, case["classes"]).astype(np.int16)
    )
    graph = input_gradient_graph(case, weight, scales, exponent, start, dtype)
    values = assert_machines_equal_oracle(graph, {"gy": gy}, steps=3)
    if exponent != -15:
        return  # there only the limits of exponents are of interest
    unit = 2.0 ** int(values["state"][0])
    want = (gy * 2.0**exponent * scales) @ weight
    # the rounding of the result, and that of every gy once a rounded factor scales it relative to the largest scale
    scaled = scaling_error(gy) @ np.abs(weight.astype(float)) * 2.0 ** np.frexp(scales.max())[1]
    bound = unit * ROUNDING[dtype] + 2.0**exponent * scaled * 1.001
    assert np.all(np.abs(values["y"].reshape(-1) * unit - want) <= bound)


@given(cases, st.booleans(), st.sampled_from([0.0, 1e-30, 0.01, 3e38]))
@settings(max_examples=60, deadline=None)
def test_weight_update_equals_oracle(case, accumulate, rate):
    x, _, weight, scales = operands(case)
    gy = (
        np.random.default_rng(case["seed"] + 2).integers(-32768, 32767, case["classes"], endpoint=True).astype(np.int16)
    )
    block = (0, case["classes"], 0, x.size)
    graph = update_graph(
        "conv2d_weight_update",
        [activation("x", case["inputs"], 0.02, case["zero_point"]), gradient("gy", gy.shape, -15)],
        weight, scales, {"block": block, "kernel": (1, 1), "x_scale": 0.02}, accumulate=accumulate,
    )  # fmt: skip
    run(graph, {"x": x, "gy": gy}, rate, steps=2)


def test_a_weight_moves_by_rate_times_gradient_over_scale_and_stays_in_its_range():
    rng = np.random.default_rng(0)
    x, gy = rng.integers(-128, 128, 6).astype(np.int8), np.array([30000, -30000, 123], np.int16)
    scales = np.array([1e-4, 2e-4, 1e-3])
    graph = update_graph(
        "conv2d_weight_update", [activation("x", (6,), 0.02, -5), gradient("gy", (3,), -15)],
        np.zeros((3, 6), np.int16), scales, {"block": (0, 3, 0, 6), "kernel": (1, 1), "x_scale": 0.02},
    )  # fmt: skip
    got = run(graph, {"x": x, "gy": gy}, 0.5)["p"]
    want = -0.5 * (gy * 2.0**-15)[:, None] * (x.astype(float) + 5) * 0.02 / scales[:, None]
    np.testing.assert_allclose(got, np.clip(want, -LIMIT, LIMIT), atol=0.51)
    got = run(graph, {"x": x, "gy": gy}, 1e6)["p"]
    assert set(np.abs(got[:2]).ravel()) == {LIMIT}


def refused(x: Tensor, weight: np.ndarray, bias: np.ndarray) -> None:
    inputs = {
        "x": x,
        "bias": constant("bias", bias),
        "w": Tensor("w", weight.shape, str(weight.dtype), Role.CONSTANT, Quantization(np.ones(1)), weight),
    }
    with pytest.raises(GraphError, match="classifier"):
        one_node("classifier", inputs, {}, {})


def test_operands_that_do_not_fit_are_refused():
    refused(activation("x", (5,)), np.zeros((3, 4), np.int16), np.zeros(3, np.int32))
    refused(activation("x", (4,)), np.zeros((3, 4), np.int16), np.zeros(4, np.int32))
    refused(activation("x", (4,)), np.zeros((3, 4), np.int8), np.zeros(3, np.int32))
