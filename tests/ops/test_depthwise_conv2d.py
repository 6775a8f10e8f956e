# SPDX-License-Identifier: Apache-2.0
"""depthwise_conv2d: C kernels equal the oracle, whole and cut; gradients are the float gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nets import Net
from tests.ops.gradients import (
    ROUNDING,
    STEPS,
    assert_is_the_float_gradient,
    autograd,
    away_from_bounds,
    finite_differences,
    real,
    real_clamp,
    run_gradient,
    widths,
    with_gradient,
)
from tests.ops.room import room
from tests.ops.windowed import (
    bias_meaning,
    cases,
    cells,
    integers,
    outputs_of,
    summed_gradient,
    window_attrs,
    with_trained,
)
from tests.oracle import activation, assert_machines_equal_oracle, constant, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization

CLAMP = (-110, 120)
multipliers = st.sampled_from([1, 1, 2, 3])
small = {"size": st.tuples(st.integers(1, 5), st.integers(1, 4)), "channels": st.integers(1, 2)}
# beside the counts of channels that kernels work on together
layers = cases() | cases(channels=st.sampled_from([8, 15, 16, 31, 32, 33, 40, 47, 75]))
rooms = st.sampled_from([0, 4, 100, 600, 4000])  # scratch bytes beyond the minimum
edges = st.lists(st.integers(1, 12) | st.integers(1, 75), max_size=3)


def build(case, multiplier=1, cuts=(), rounding="double", clamp=(-128, 127)):
    """A graph of one node, and a sample. cuts: where the weight's channels are cut into blocks."""
    rng = np.random.default_rng(case["seed"])
    channels = case["channels"] * multiplier
    x = activation("x", (*case["size"], case["channels"]), 0.02, case["zero_point"])
    weight = integers(rng, (*case["kernel"], channels), np.int8, case["extreme"], -127)
    bias = rng.integers(-(2**31), 2**31, channels) if case["extreme"] else rng.integers(-999, 1000, channels)
    scales = rng.uniform(1e-4, 0.05, channels)
    bounds = [0, *sorted({cut for cut in cuts if cut < channels}), channels]
    blocks = tuple((a, b - a) for a, b in pairwise(bounds))
    inputs = {"x": x, "bias": constant("bias", bias.astype(np.int32)).but(quantization=bias_meaning(x, scales))}
    for start, count in blocks:
        part = np.ascontiguousarray(weight[:, :, start : start + count])
        inputs[f"w{start}"] = constant(f"w{start}", part, scales[start : start + count], 2)
    attrs = {**window_attrs(case), "clamp": clamp, "rounding": rounding}
    if cuts:
        attrs["blocks"] = blocks
    graph = one_node("depthwise_conv2d", inputs, attrs, {"quantization": Quantization.per_tensor(0.07, 5)})
    return graph, integers(rng, x.shape, np.int8, case["extreme"])


def certificates():
    def case(size, *args, **more):
        net = Net(np.random.default_rng(1))
        return net.done(net.depthwise("depthwise", net.input(size, zero_point=-9), *args, **more))

    return {
        "3 x 3, padding 1": case((5, 5, 4), 3, 1, 1),
        "3 x 3, stride 2, padding 1, ReLU": case((6, 5, 4), 3, 2, 1, relu=True),
        "7 x 7, padding 3": case((6, 6, 2), 7, 1, 3),
        "3 x 3, channel multiplier 3": case((4, 5, 2), 3, 1, 1, multiplier=3),
        "2 x 3, strides 2 and 1, padding 1 0 0 2": case((5, 4, 3), (2, 3), (2, 1), (1, 0, 0, 2), relu=True),
    }


@given(layers, multipliers, edges, st.sampled_from(["double", "single"]))
@settings(max_examples=60, deadline=None)
def test_forward_kernel_equals_oracle(case, multiplier, cuts, rounding):
    graph, sample = build(case, multiplier, cuts, rounding)
    assert_machines_equal_oracle(graph, {"x": sample})


# images that fill strips of outputs and leave some over, in one tile of rows or several, windows partly outside
strips = cases(
    size=st.tuples(st.integers(1, 9), st.integers(1, 21)),
    channels=st.sampled_from([4, 8, 9]),
    kernel=st.sampled_from([(3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (2, 3), (5, 3), (3, 5), (1, 7), (4, 4)]),
    strides=st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (3, 1)]),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)


clamps = st.sampled_from([(-128, 127), (5, 127), (5, 60), (-20, 120)])  # from the zero point on: a ReLU


@given(strips, rooms, clamps)
@settings(max_examples=120, deadline=None)
def test_rows_of_many_outputs_equal_oracle(case, extra, clamp):
    graph, sample = build(case, clamp=clamp)
    with room("depthwise_conv2d", extra):
        assert_machines_equal_oracle(graph, {"x": sample})


@given(layers, multipliers, edges)
@settings(max_examples=25, deadline=None)
def test_cutting_the_weight_changes_no_bit(case, multiplier, cuts):
    whole, sample = build(case, multiplier)
    pieces, _ = build(case, multiplier, cuts)
    expected = assert_machines_equal_oracle(whole, {"x": sample})["y"]
    np.testing.assert_array_equal(assert_machines_equal_oracle(pieces, {"x": sample})["y"], expected)


@given(layers, multipliers, edges, st.sampled_from(["master", "stochastic", "sum"]), widths, rooms)
@settings(max_examples=120, deadline=None)
def test_training_kernels_equal_oracle(case, multiplier, cuts, how, dtype, extra):
    """Input gradient, and the updates of some blocks and of the bias, over several steps."""
    with room("depthwise_conv2d_input_gradient", extra), room("depthwise_conv2d_weight_update", extra):
        assert_training_equals_oracle(case, multiplier, cuts, how, dtype)


@pytest.mark.parametrize(
    "size, channels, kernel, stride, padding",
    [((4, 4), 40, 5, 1, 2), ((8, 8), 33, 7, 2, 3), ((9, 6), 24, 3, 1, 1), ((6, 5), 50, 1, 2, 0)],
)
def test_training_kernels_of_large_windows_equal_oracle(size, channels, kernel, stride, padding):
    case = {"size": size, "channels": channels, "kernel": (kernel, kernel), "strides": (stride, stride),
            "padding": (padding,) * 4, "zero_point": -128, "extreme": False, "seed": kernel}  # fmt: skip
    for cuts, extra, extreme in [((), 0, False), ((), 2000, True), ((16, 23), 2000, False)]:
        with room("depthwise_conv2d_input_gradient", extra), room("depthwise_conv2d_weight_update", extra):
            assert_training_equals_oracle({**case, "extreme": extreme}, 1, cuts, "master", "int16")


@pytest.mark.parametrize("size, channels", [((3, 600), 9), ((40, 13), 17), ((1, 300), 3)])
def test_updates_over_many_pixels_are_exact(size, channels):
    """More products than fit 32 bits, cut within rows and between them."""
    case = {"size": size, "channels": channels, "kernel": (1, 3), "strides": (1, 1), "padding": (0, 0, 1, 1),
            "zero_point": 127, "extreme": True, "seed": 5}  # fmt: skip
    for how in ("master", "sum"):
        assert_training_equals_oracle(case, 1, (), how, "int16")


def assert_training_equals_oracle(case, multiplier, cuts, how, dtype):
    forward, sample = build(case, multiplier, cuts, clamp=CLAMP)
    blocks = forward.nodes[0].inputs[2:]
    trained = [*(blocks[1::2] if case["seed"] % 2 else blocks[::2]), "bias"]
    graph, _ = with_gradient(with_trained(forward, trained, how), dtype=dtype)
    rng = np.random.default_rng(case["seed"] + 1)
    gy = integers(rng, forward["y"].shape, dtype, case["extreme"])
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


def float_depthwise(case, multiplier, clamp):
    def function(x, w, b):
        read = [c // multiplier for c in range(w.shape[2])]
        y = (cells(case, x)[..., read] * w.reshape(-1, w.shape[2])).sum(2) + b
        return y.clip(*clamp)

    return function


@given(cases(**small), multipliers, widths)
@settings(max_examples=40, deadline=None)
def test_input_gradient_is_the_float_gradient(case, multiplier, dtype):
    forward, sample = build({**case, "extreme": False}, multiplier, clamp=CLAMP)
    x, w, b, function, gy = float_layer(forward, sample, case, multiplier, dtype)
    (got,), (unit,), _ = run_gradient(forward, {"x": sample}, gy)
    # the rounding of the mantissa, and half a unit of each relative weight scale
    largest = float(np.abs(gy).max(initial=0)) * 2.0**-12
    bound = (
        unit * ROUNDING[dtype]
        + multiplier * w[:, :, 0].size * 127 * largest * forward["w0"].quantization.scale.max() * 2.0**-15
    )

    def of_x(value):
        return function(value, *((w, b) if isinstance(value, np.ndarray) else map(value.new_tensor, (w, b))))

    assert_is_the_float_gradient([got], of_x, [x], gy * 2.0**-12, [bound], 1e-4)


def float_layer(forward, sample, case, multiplier, dtype="int16"):
    """Real x, w and b, the float operator, and a gy that rounding cannot move across the clamp."""
    x, w = real(forward, "x", sample), forward["w0"].data * forward["w0"].quantization.scale
    b = forward["bias"].data * forward["bias"].quantization.scale
    gy = integers(np.random.default_rng(case["seed"] + 1), forward["y"].shape, dtype, False)
    unclamped = float_depthwise(case, multiplier, (-np.inf, np.inf))(x, w, b)
    gy = away_from_bounds(forward, unclamped, CLAMP, gy)
    return x, w, b, float_depthwise(case, multiplier, real_clamp(forward, CLAMP)), gy


@given(cases(**small), multipliers, widths)
@settings(max_examples=40, deadline=None)
def test_updates_follow_the_float_gradient(case, multiplier, dtype):
    forward, sample = build({**case, "extreme": False}, multiplier, clamp=CLAMP)
    x, w, b, function, gy = float_layer(forward, sample, case, multiplier, dtype)
    graph, _ = with_gradient(with_trained(forward, ["w0", "bias"], "sum"), dtype=dtype)
    values = assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)
    got = [
        summed_gradient(graph, "w0", values["w0.sum'"], STEPS),
        summed_gradient(graph, "bias", values["bias.sum'"], STEPS),
    ]
    # a step of the accumulator per training step, and the sum's right shift: 2^-31 of the largest sum
    units = [summed_gradient(graph, "w0", np.ones(w.shape), 1),
             summed_gradient(graph, "bias", np.ones(b.shape), 1)]  # fmt: skip
    pixels = np.prod(outputs_of(case))
    rounding = [pixels * 2.0**15 * 255 * 0.02 * 2.0**-12 * 2.0**-30, pixels * 2.0**15 * 2.0**-12 * 2.0**-30]
    bounds = [unit + more for unit, more in zip(units, rounding, strict=True)]
    saturated = [np.isin(values[name], (-(2**31), 2**31 - 1)) for name in ("w0.sum'", "bias.sum'")]
    wants = [finite_differences(function, [x, w, b], gy * 2.0**-12, 1e-6), autograd(function, [x, w, b], gy * 2.0**-12)]
    for want in wants:
        for index, expected in enumerate((want or [])[1:]):
            worst = np.abs(got[index] - expected) - bounds[index] - 1e-5 * np.abs(expected).max(initial=1e-12)
            assert np.all((worst <= 0) | saturated[index])


def test_a_trained_slice_keeps_only_the_channels_it_reads():
    case = {"size": (4, 4), "channels": 8, "kernel": (3, 3), "strides": (1, 1), "padding": (1, 1, 1, 1),
            "zero_point": 0, "extreme": False, "seed": 0}  # fmt: skip
    forward, sample = build(case, 3, cuts=(5, 11))
    graph, _ = with_gradient(with_trained(forward, ["w5"], "master"))
    (update,) = [node for node in graph.nodes if node.op == "depthwise_conv2d_weight_update"]
    assert graph[update.inputs[0]].shape == (4, 4, 3)  # outputs 5 to 10 read inputs 1 to 3
    assert update.inputs[0] == "x[1:4]"
    gy = np.random.default_rng(1).integers(-32768, 32768, forward["y"].shape).astype(np.int16)
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


def test_without_a_wanted_gradient_or_a_trained_weight_nothing_is_built():
    case = {"size": (3, 3), "channels": 2, "kernel": (2, 2), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": 0, "extreme": False, "seed": 0}  # fmt: skip
    graph, _ = with_gradient(with_trained(build(case)[0], ["bias"], "master"))
    assert [node.op for node in graph.nodes] == [
        "depthwise_conv2d", "clamp_mask", "mask_gradient", "depthwise_conv2d_input_gradient", "bias_update",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "weights, bias, blocks, why",
    [
        ([(2, 2, 5)], 5, None, "weights of 5 channels"),
        ([(2, 2, 4)], 3, None, "bias"),
        ([(2, 2, 2), (2, 2, 2)], 4, ((2, 2), (0, 2)), "do not follow one another"),
        ([(2, 2, 3), (2, 2, 1)], 4, ((0, 2), (2, 2)), "blocks of"),
        ([(9, 9, 4)], 4, None, "larger than the padded input"),
    ],
)
def test_refusals(weights, bias, blocks, why):
    inputs = {"x": activation("x", (4, 4, 4)), "bias": constant("bias", np.zeros(bias, np.int32))}
    for index, shape in enumerate(weights):
        inputs[f"w{index}"] = constant(f"w{index}", np.zeros(shape, np.int8), [0.1] * shape[2], 2)
    attrs = {"clamp": (-128, 127), "rounding": "double"} | ({"blocks": blocks} if blocks else {})
    with pytest.raises(GraphError, match="depthwise_conv2d") as refusal:
        one_node("depthwise_conv2d", inputs, attrs, {})
    assert why in str(refusal.value)


def test_a_window_whose_gradient_sum_may_overflow_is_refused():
    case = {"size": (23, 23), "channels": 1, "kernel": (23, 23), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": 0, "extreme": True, "seed": 0}  # fmt: skip
    forward, _ = build(case)
    with pytest.raises(GraphError, match="may pass 32 bits"):
        with_gradient(forward)
