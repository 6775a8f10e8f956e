# SPDX-License-Identifier: Apache-2.0
"""fully_connected: conv2d's kernels at one pixel equal the oracle and LiteRT, for x of any shape, whole and cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frontends.tflite_file import TfliteFile
from tests.nets import Net
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
from tests.ops.litert import float32
from tests.ops.windowed import bias_meaning, integers, summed_gradient, with_trained, zero_points
from tests.oracle import activation, assert_machines_equal_oracle, assert_same, constant, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization

CLAMP = (-100, 110)
shapes = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.just(1), st.just(1), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
cases = st.fixed_dictionaries(
    {"shape": shapes, "outputs": st.integers(1, 9), "zero_point": zero_points, "per_channel": st.booleans(),
     "at": st.tuples(st.integers(0, 9), st.integers(0, 40)), "extreme": st.booleans(), "seed": st.integers(0, 2**31)}
)  # fmt: skip


def build(case, clamp=(-128, 127), cut=True):
    """A graph of one node, and a sample; the weight is cut at (output, input) `at`."""
    rng = np.random.default_rng(case["seed"])
    inputs, outputs = math.prod(case["shape"]), case["outputs"]
    x = activation("x", case["shape"], float32(0.02), case["zero_point"])
    weight = integers(rng, (outputs, inputs), np.int8, case["extreme"], -127)
    scales = rng.uniform(1e-3, 0.05, outputs if case["per_channel"] else 1)
    bias = rng.integers(-(2**31), 2**31, outputs) if case["extreme"] else rng.integers(-999, 1000, outputs)
    at_co, at_ci = (min(case["at"][0], outputs), min(case["at"][1], inputs)) if cut else (outputs, inputs)
    rest = inputs - at_ci
    rectangles = [(0, outputs, 0, at_ci), (0, at_co, at_ci, rest), (at_co, outputs - at_co, at_ci, rest)]
    rectangles = [r for r in rectangles if r[1] and r[3]]
    meaning = bias_meaning(x, np.broadcast_to(scales, (outputs,)))
    tensors = {"x": x, "bias": constant("bias", bias.astype(np.int32)).but(quantization=meaning)}
    for index, (c0, cn, i0, count) in enumerate(rectangles):
        part = np.ascontiguousarray(weight[c0 : c0 + cn, i0 : i0 + count])
        tensors[f"w{index}"] = constant(f"w{index}", part, np.broadcast_to(scales, (outputs,))[c0 : c0 + cn], 0)
    attrs = {"clamp": clamp, "rounding": "single", "blocks": tuple(rectangles)}
    graph = one_node("fully_connected", tensors, attrs, {"quantization": Quantization.per_tensor(0.05, -4)})
    return graph, integers(rng, x.shape, np.int8, case["extreme"])


def certificates():
    def case(shape, outputs, **more):
        net = Net(np.random.default_rng(1))
        return net.done(net.dense("dense", net.input(shape, zero_point=-9), outputs, **more))

    return {
        "vector": case((40,), 7),
        "vector, ReLU": case((40,), 7, relu=True, zero_point=-17),
        "image": case((3, 4, 2), 5),
    }


@given(cases)
@settings(max_examples=60, deadline=None)
def test_forward_kernel_equals_oracle(case):
    graph, sample = build(case)
    got = assert_machines_equal_oracle(graph, {"x": sample})["y"]
    whole, _ = build(case, cut=False)
    np.testing.assert_array_equal(got, assert_machines_equal_oracle(whole, {"x": sample})["y"])


def dense_model(x, weight, x_scale, scales, y_scale, bias=None):
    """LiteRT's output of one fully connected layer without zero points."""
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    file = TfliteFile()
    given_x = file.tensor((1, len(x)), x_scale)
    given_bias = -1 if bias is None else file.constant(bias, (x_scale * np.float32(scales)).tolist())
    y = file.tensor((1, len(weight)), y_scale)
    file.op("FULLY_CONNECTED", [given_x, file.constant(weight, scales), given_bias], [y])
    interpreter = interpreters.Interpreter(
        model_content=file.content([given_x], [y]),
        experimental_op_resolver_type=interpreters.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def graph_of(weight, x_scale, scales, y_scale, bias):
    x = activation("x", (weight.shape[1],), x_scale)
    tensors = {"x": x, "bias": constant("bias", bias), "w": constant("w", weight, scales, 0)}
    attrs = {"clamp": (-128, 127), "rounding": "single"}
    return one_node("fully_connected", tensors, attrs, {"quantization": Quantization.per_tensor(y_scale)})


@given(st.integers(1, 60), st.integers(1, 60), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_equals_litert(inputs, outputs, per_channel, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, inputs).astype(np.int8)
    weight = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    scales = [float32(s) for s in rng.uniform(0.001, 0.02, outputs if per_channel else 1)]
    bias = rng.integers(-3000, 3000, outputs).astype(np.int32)
    x_scale, y_scale = float32(0.03), float32(0.02 * np.sqrt(inputs))
    got = assert_machines_equal_oracle(graph_of(weight, x_scale, scales, y_scale, bias), {"x": x})["y"]
    assert_same(got, dense_model(x, weight, x_scale, scales, y_scale, bias), "y")


# (weight scale, weights): with the product of scales formed in float32, or rounded twice, another byte would come out
FINE = [(0.015568159520626068, (-99, -40)), (0.059783272445201874, (-37, -123)), (0.02412692829966545, (-67, 24)),
        (0.055071715265512466, (104, 68)), (0.00409783236682415, (-105, 81))]  # fmt: skip


@pytest.mark.parametrize("scale, weights", FINE)
def test_multiplier_is_formed_in_double_precision_and_applied_with_one_rounding(scale, weights):
    x, weight = np.array([127, 1], np.int8), np.array([weights], np.int8)
    x_scale, y_scale = float32(0.0371), float32(0.31)
    graph = graph_of(weight, x_scale, [scale], y_scale, np.zeros(1, np.int32))
    got = assert_machines_equal_oracle(graph, {"x": x})["y"]
    assert_same(got, dense_model(x, weight, x_scale, [scale], y_scale), "y")


@given(cases, st.sampled_from(["master", "stochastic", "sum"]), widths)
@settings(max_examples=80, deadline=None)
def test_training_kernels_equal_oracle(case, how, dtype):
    """Input gradient, and the updates of every other block and of the bias, over several steps."""
    forward, sample = build(case, CLAMP)
    graph, _ = with_gradient(with_trained(forward, [*forward.nodes[0].inputs[2::2], "bias"], how), dtype=dtype)
    gy = integers(np.random.default_rng(case["seed"] + 1), forward["y"].shape, dtype, case["extreme"])
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


def float_layer(forward, sample, case, dtype):
    """Real x, w and b, the float operator, and a gy that rounding cannot move across the clamp."""
    x, w = real(forward, "x", sample), forward["w0"].data * forward["w0"].quantization.scale[:, None]
    b = forward["bias"].data * forward["bias"].quantization.scale
    gy = integers(np.random.default_rng(case["seed"] + 1), (case["outputs"],), dtype, False)
    gy = away_from_bounds(forward, w @ x.reshape(-1) + b, CLAMP, gy)
    low, high = real_clamp(forward, CLAMP)
    return x, w, b, lambda x, w, b: (w @ x.reshape(-1) + b).clip(low, high), gy


@given(cases, widths)
@settings(max_examples=40, deadline=None)
def test_gradients_are_the_float_gradients(case, dtype):
    forward, sample = build({**case, "extreme": False}, CLAMP, cut=False)
    x, w, b, function, gy = float_layer(forward, sample, case, dtype)
    (gx,), (unit,), _ = run_gradient(forward, {"x": sample}, gy)
    graph, _ = with_gradient(with_trained(forward, ["w0", "bias"], "sum"), dtype=dtype)
    values = assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)
    products = case["outputs"] * 127 * forward["w0"].quantization.scale.max() * 2.0**-12 * 1.5
    got, bounds = [gx], [unit * ROUNDING[dtype] + products * {"int16": 1, "int8": 2.0**-8}[dtype]]
    for name in ("w0", "bias"):
        sums = values[f"{name}.sum'"]
        assert np.abs(sums).max() < 2**31 - 1
        got.append(summed_gradient(graph, name, sums, STEPS))
        bounds.append(summed_gradient(graph, name, np.ones(sums.shape), 1))
    assert_is_the_float_gradient(got, function, [x, w, b], gy * 2.0**-12, bounds, 1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4), (24,), (1, 1, 24)])
def test_a_trained_slice_keeps_only_the_inputs_it_reads(shape):
    case = {"shape": shape, "outputs": 4, "zero_point": 3, "per_channel": True, "at": (4, 8), "extreme": False,
            "seed": 5}  # fmt: skip
    forward, _ = build(case)
    graph, _ = with_gradient(with_trained(forward, ["w0"], "master"))
    (update,) = [node for node in graph.nodes if node.op == "conv2d_weight_update"]
    assert graph[update.inputs[0]].size == 8


@pytest.mark.parametrize(
    "x, weight, bias, why",
    [
        ((3, 4), (5, 11), 5, "12 elements"),
        ((3, 4), (5, 12), 4, "bias"),
        ((3, 4), (5, 3, 4), 5, "weights"),
        ((66312,), (1, 66312), 1, "may pass 32 bits"),
    ],
)
def test_refusals(x, weight, bias, why):
    inputs = {
        "x": activation("x", x), "bias": constant("bias", np.zeros(bias, np.int32)),
        "w": constant("w", np.zeros(weight, np.int8), [0.1], 0),
    }  # fmt: skip
    with pytest.raises(GraphError, match="fully_connected") as refusal:
        one_node("fully_connected", inputs, {"clamp": (-128, 127), "rounding": "single"}, {})
    assert why in str(refusal.value)
