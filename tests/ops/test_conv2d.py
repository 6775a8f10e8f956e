# SPDX-License-Identifier: Apache-2.0
"""conv2d: the C kernels equal the oracle, for whole and for cut weights; the input gradient is the float gradient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nets import Net
from tests.ops.gradients import ROUNDING, STEPS, widths, with_gradient
from tests.ops.room import room
from tests.ops.update_graphs import run, update_graph
from tests.ops.windowed import bias_meaning, with_trained
from tests.oracle import activation, assert_machines_equal_oracle, constant, gradient, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Exponent, Phase, Quantization, Role

small = {
    "size": st.tuples(st.integers(1, 7), st.integers(1, 7)),
    "channels": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(*[st.integers(0, 2)] * 4),
    "zero_point": st.sampled_from([-128, -3, 0, 127]),
    "extreme": st.booleans(),
    "seed": st.integers(0, 2**31),
}
# beside the counts of channels that kernels work on together, and more outputs than one 32 bit sum takes
CHANNELS = st.sampled_from([1, 7, 8, 15, 31, 32, 33, 40, 47, 75])
wide = {
    "size": st.tuples(st.integers(1, 3), st.integers(1, 4)),
    "channels": st.tuples(CHANNELS, CHANNELS | st.sampled_from([257, 520])),
    "kernel": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "strides": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "padding": st.tuples(*[st.integers(0, 1)] * 4),
}
# 1 x 1 windows have kernels of their own: more pixels than a tile, channels beside the counts that tiles have
POINTS = st.sampled_from([1, 5, 6, 7, 8, 12, 13, 16, 24, 31, 48])
pointwise = {
    **small,
    "size": st.tuples(st.integers(1, 12), st.integers(1, 12)),
    "channels": st.tuples(POINTS, POINTS | st.sampled_from([257, 520])),
    "kernel": st.just((1, 1)),
    "strides": st.just((1, 1)),
    "padding": st.just((0, 0, 0, 0)),
}
rooms = st.sampled_from([0, 4, 100, 1000, 40000])  # scratch bytes beyond the minimum
shapes = st.fixed_dictionaries(small) | st.fixed_dictionaries({**small, **wide})
cuts = st.integers(0, 9) | st.integers(0, 75)


def fits(case):
    (h, w), (kh, kw), (t, b, left, r) = case["size"], case["kernel"], case["padding"]
    return h + t + b >= kh and w + left + r >= kw


def integers(rng, shape, low, high, dtype, extreme):
    if extreme:
        return rng.choice(np.array([low, high], dtype), shape)
    return rng.integers(low, high, shape, dtype, endpoint=True)


def cut(weight, scales, at_co, at_ci):
    """The weight as three blocks: all outputs of the first inputs, and two output ranges of the rest."""
    co, ci = weight.shape[0], weight.shape[-1]
    rectangles = [(0, co, 0, at_ci), (0, at_co, at_ci, ci - at_ci), (at_co, co - at_co, at_ci, ci - at_ci)]
    rectangles = [r for r in rectangles if r[1] and r[3]]
    blocks = {}
    for index, (c0, cn, i0, count) in enumerate(rectangles):
        part = np.ascontiguousarray(weight[c0 : c0 + cn, ..., i0 : i0 + count])
        blocks[f"w{index}"] = constant(f"w{index}", part, scales[c0 : c0 + cn], 0)
    return blocks, tuple(rectangles)


def build(case, rounding="double", pieces=None, clamp=(-128, 127)):
    rng = np.random.default_rng(case["seed"])
    (ci, co), (kh, kw) = case["channels"], case["kernel"]
    weight = integers(rng, (co, kh, kw, ci), -127, 127, np.int8, case["extreme"])
    bias = (
        rng.integers(-(2**31), 2**31 - 1, co).astype(np.int32)
        if case["extreme"]
        else rng.integers(-999, 999, co).astype(np.int32)
    )
    scales = rng.uniform(1e-4, 0.05, co)
    blocks, rectangles = cut(weight, scales, *(pieces or (0, ci)))
    attrs = {
        "strides": case["strides"],
        "padding": case["padding"],
        "clamp": clamp,
        "rounding": rounding,
        "blocks": rectangles,
    }
    x = activation("x", (*case["size"], ci), 0.02, case["zero_point"])
    sample = integers(rng, x.shape, -128, 127, np.int8, case["extreme"])
    meaning = bias_meaning(x, scales)
    inputs = {"x": x, "bias": constant("bias", bias).but(quantization=meaning), **blocks}
    graph = one_node("conv2d", inputs, attrs, {"quantization": Quantization.per_tensor(0.03, case["zero_point"])})
    return graph, sample


def certificates():
    def case(size, co, *args, **more):
        net = Net(np.random.default_rng(1))
        return net.done(net.conv("conv", net.input(size, zero_point=-9), co, *args, **more))

    return {
        "1 x 1": case((4, 3, 5), 6),
        "1 x 1, ReLU": case((4, 3, 5), 6, relu=True, zero_point=-17),
        "3 x 3, padding 1": case((5, 5, 3), 4, 3, 1, 1),
        "3 x 3, stride 2, padding 1, ReLU": case((6, 5, 3), 4, 3, 2, 1, relu=True),
        "2 x 4, strides 1 and 3, padding 0 1 2 0": case((5, 6, 2), 3, (2, 4), (1, 3), (0, 1, 2, 0)),
    }


@given(shapes.filter(fits), st.sampled_from(["double", "single"]))
@settings(max_examples=60, deadline=None)
def test_forward_kernel_equals_oracle(case, rounding):
    graph, sample = build(case, rounding)
    assert_machines_equal_oracle(graph, {"x": sample})


@pytest.mark.parametrize("inputs", [767, 768, 800, 1601, 3071, 3072])
@pytest.mark.parametrize("pieces", [None, (13, 400)])
def test_sums_of_many_inputs(inputs, pieces):
    """Of so many inputs a host lays fewer outputs side by side at a time, or none."""
    case = {"size": (2, 3), "channels": (inputs, 41), "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": -3, "extreme": False, "seed": inputs}  # fmt: skip
    graph, sample = build(case, pieces=pieces)
    assert_machines_equal_oracle(graph, {"x": sample})


def test_sums_whose_doubles_may_not_fit():
    case = {"size": (1, 5), "channels": (16388, 3), "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": 127, "extreme": True, "seed": 1}  # fmt: skip
    graph, sample = build(case)
    assert_machines_equal_oracle(graph, {"x": sample})


@pytest.mark.parametrize("zero_point", [-128, -5, 90])
@pytest.mark.parametrize("low", [-1, 0, 1])
def test_clamp_at_the_zero_point(zero_point, low):
    """Where no output is below the zero point, the sign of a total is of no account."""
    case = {"size": (5, 5), "channels": (12, 7), "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": zero_point, "extreme": False, "seed": 2}  # fmt: skip
    graph, sample = build(case, clamp=(max(-128, zero_point + low), 127))
    assert_machines_equal_oracle(graph, {"x": sample})


# rows of windows of 8 to 12 bytes, and others; images that several tiles of pixels make up
gathered = {
    **small,
    "size": st.tuples(st.integers(1, 9), st.integers(1, 15)),
    "channels": st.tuples(st.sampled_from([1, 2, 3, 4, 5]), st.integers(1, 7)),
    "kernel": st.sampled_from([(3, 3), (3, 3), (2, 4), (1, 2), (5, 2)]),
    "padding": st.tuples(*[st.integers(0, 2)] * 4),
}


@given((st.fixed_dictionaries(gathered) | st.fixed_dictionaries(pointwise)).filter(fits), cuts, cuts)
@settings(max_examples=100, deadline=None)
def test_tiles_of_many_pixels_equal_oracle(case, at_co, at_ci):
    ci, co = case["channels"]
    graph, sample = build(case, pieces=(min(at_co, co), min(at_ci, ci)))
    assert_machines_equal_oracle(graph, {"x": sample})


@given(shapes.filter(fits), cuts, cuts)
@settings(max_examples=40, deadline=None)
def test_cutting_the_weight_changes_no_bit(case, at_co, at_ci):
    ci, co = case["channels"]
    whole, sample = build(case)
    pieces, _ = build(case, pieces=(min(at_co, co), min(at_ci, ci)))
    expected = assert_machines_equal_oracle(whole, {"x": sample})["y"]
    np.testing.assert_array_equal(assert_machines_equal_oracle(pieces, {"x": sample})["y"], expected)


def input_gradient_graph(case, pieces=None, start=(-20, 0, 0), exponent=-12, dtype="int16"):
    forward, _ = build(case, pieces=pieces)
    return *input_gradient_of(forward, case, start, exponent, dtype), forward


def input_gradient_of(forward, case, start=(-20, 0, 0), exponent=-12, dtype="int16"):
    node = forward.node("conv2d")
    rng = np.random.default_rng(case["seed"] + 1)
    y_shape = forward["y"].shape
    blocks = {name: forward[name] for name in node.inputs[2:]}
    attrs = {**node.attrs, "x_shape": forward["x"].shape}
    graph = one_node(
        "conv2d_input_gradient", {"gy": gradient("gy", y_shape, exponent, dtype), **blocks}, attrs,
        {"role": Role.GRADIENT, "exponent": Exponent("state")}, Phase.BACKWARD, start,
    )  # fmt: skip
    limits = np.iinfo(dtype)
    return graph, integers(rng, y_shape, limits.min, limits.max, dtype, case["extreme"])


@given(shapes.filter(fits), cuts, cuts, st.sampled_from([-96, -20, 0, 96]), widths)
@settings(max_examples=90, deadline=None)
def test_input_gradient_kernel_equals_oracle(case, at_co, at_ci, start, dtype):
    ci, co = case["channels"]
    graph, gy, _ = input_gradient_graph(case, (min(at_co, co), min(at_ci, ci)), (start, 0, 0), dtype=dtype)
    assert_machines_equal_oracle(graph, {"gy": gy}, steps=3)


@given(st.fixed_dictionaries(pointwise), cuts, cuts, st.sampled_from([-96, -25, -20, -5, 0, 20]), rooms)
@settings(max_examples=60, deadline=None)
def test_input_gradient_of_1x1_windows_equals_oracle(case, at_co, at_ci, start, extra):
    ci, co = case["channels"]
    with room("conv2d_input_gradient", extra):
        graph, gy, _ = input_gradient_graph(case, (min(at_co, co), min(at_ci, ci)), (start, 0, 0))
        assert_machines_equal_oracle(graph, {"gy": gy}, steps=3)


@pytest.mark.parametrize("largest", [20000, 32767])
def test_input_gradient_of_more_outputs_than_32_bits_surely_hold(largest):
    case = {"size": (3, 3), "channels": (8, 600), "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": 0, "extreme": True, "seed": 3}  # fmt: skip
    with room("conv2d_input_gradient", 9000):
        graph, gy, _ = input_gradient_graph(case)
        assert_machines_equal_oracle(graph, {"gy": np.clip(gy, -largest, largest)}, steps=3)


@pytest.mark.parametrize("channels, kernel", [((23, 48), 1), ((40, 72), 1), ((10, 17), 3)])
@pytest.mark.parametrize("extra", [0, 700, 3000, 30000])
def test_gradients_of_several_tiles_of_pixels(channels, kernel, extra):
    """More pixels than a kernel packs at once; input channels that end within a tile; the same for the updates."""
    case = {"size": (9, 10), "channels": channels, "kernel": (kernel, kernel), "strides": (1, 1),
            "padding": (kernel // 2,) * 4, "zero_point": -128, "extreme": extra == 700, "seed": 6}  # fmt: skip
    with room("conv2d_input_gradient", extra), room("conv2d_weight_update", extra):
        graph, gy, _ = input_gradient_graph(case, (channels[1] // 2 + 1, 5))
        assert_machines_equal_oracle(graph, {"gy": gy}, steps=3)
        assert_updates_equal_oracle(case, (channels[1] // 2 + 1, 5), "master", "int16")


def test_input_gradient_of_the_largest_factor():
    """A scale just below a power of two has the factor 1, which int16 has not."""
    case = {"size": (2, 3), "channels": (7, 21), "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": 0, "extreme": True, "seed": 4}  # fmt: skip
    with room("conv2d_input_gradient", 9000):
        forward, _ = build(case)
        scales = np.where(np.arange(21) % 3 == 0, 1 - 2.0**-20, 0.7)
        forward.tensors["w0"] = forward["w0"].but(quantization=Quantization(scales, 0, 0))
        graph, gy = input_gradient_of(forward, case)
        assert_machines_equal_oracle(graph, {"gy": gy}, steps=3)


@given(shapes.filter(fits), cuts, cuts, st.sampled_from(["master", "stochastic", "sum"]), widths)
@settings(max_examples=80, deadline=None)
def test_update_kernels_equal_oracle(case, at_co, at_ci, how, dtype):
    """The updates of some blocks and of the bias, over several steps."""
    ci, co = case["channels"]
    assert_updates_equal_oracle(case, (min(at_co, co), min(at_ci, ci)), how, dtype)


@given(st.fixed_dictionaries(pointwise), cuts, cuts, st.sampled_from(["master", "stochastic", "sum"]), rooms)
@settings(max_examples=60, deadline=None)
def test_updates_of_1x1_windows_equal_oracle(case, at_co, at_ci, how, extra):
    ci, co = case["channels"]
    with room("conv2d_weight_update", extra):
        assert_updates_equal_oracle(case, (min(at_co, co), min(at_ci, ci)), how, "int16")


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)), st.integers(1, 14), st.integers(1, 10), st.integers(-64, 12),
    st.sampled_from([0.0, 2.0**-20, 0.05, 1.0, 3e38]), st.sampled_from(["int8", "int16"]), st.booleans(),
    st.sampled_from(["sgd", "sum", "momentum"]), st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_updates_of_any_size_equal_oracle(size, ci, co, exponent, rate, dtype, extreme, how, seed):
    """From changes below a fraction of a step to ones far beyond the limits."""
    rng, limit = np.random.default_rng(seed), {"int8": 127, "int16": 32512}[dtype]
    graph = update_graph(
        "conv2d_weight_update", [activation("x", (*size, ci), 0.02, -5), gradient("gy", (*size, co), exponent)],
        integers(rng, (co, 1, 1, ci), -limit, limit, np.dtype(dtype), extreme), 10.0 ** rng.uniform(-5, 0, co),
        {"x_scale": 0.02, "block": (0, co, 0, ci), "kernel": (1, 1), "scaling": "qas"}, master=dtype == "int8",
        fraction=rng.integers(-128, 128, (co, 1, 1, ci)).astype(np.int8) if dtype == "int8" else None,
        accumulate=how == "sum", rule="momentum" if how == "momentum" else "sgd",
    )  # fmt: skip
    gy = integers(rng, (*size, co), -32768, 32767, np.int16, extreme) // int(rng.choice([1, 1, 3000]))
    x = integers(rng, (*size, ci), -128, 127, np.int8, extreme)
    run(graph, {"x": x, "gy": gy.astype(np.int16)}, rate, steps=2, seed=seed % 99)


@pytest.mark.parametrize("size, channels", [((5, 7), (70, 6)), ((16, 16), (18, 5)), ((17, 16), (35, 4))])
@pytest.mark.parametrize("zero_point, how", [(-128, "sum"), (127, "sum"), (127, "master")])
def test_updates_of_many_channels_and_extremes_are_exact(size, channels, zero_point, how):
    """More channels than go together, some of them twice; as many pixels as fit 32 bits, and more."""
    case = {"size": size, "channels": channels, "kernel": (1, 1), "strides": (1, 1), "padding": (0, 0, 0, 0),
            "zero_point": zero_point, "extreme": True, "seed": 6}  # fmt: skip
    for dtype in ("int16", "int8"):
        assert_updates_equal_oracle(case, (0, channels[0]), how, dtype)


@pytest.mark.parametrize("size, channels", [((3, 600), (9, 2)), ((40, 13), (33, 1)), ((2, 257), (1, 9))])
@pytest.mark.parametrize("how, extra", [("sum", 0), ("master", 0), ("master", 3000)])
def test_sums_over_many_pixels_are_exact(size, channels, how, extra):
    """More products than fit 32 bits, cut within rows and between them."""
    case = {"size": size, "channels": channels, "kernel": (2, 3), "strides": (1, 1), "padding": (1, 1, 1, 1),
            "zero_point": 127, "extreme": True, "seed": 5}  # fmt: skip
    with room("conv2d_weight_update", extra):
        assert_updates_equal_oracle(case, (0, channels[0]), how, "int16")


def assert_updates_equal_oracle(case, pieces, how, dtype):
    forward, sample = build(case, pieces=pieces)
    blocks = forward.nodes[0].inputs[2:]
    trained = [*(blocks[1::2] if case["seed"] % 2 and len(blocks) > 1 else blocks[::2]), "bias"]
    graph, _ = with_gradient(with_trained(forward, trained, how), dtype=dtype)
    rng, limits = np.random.default_rng(case["seed"] + 1), np.iinfo(dtype)
    gy = integers(rng, forward["y"].shape, limits.min, limits.max, dtype, case["extreme"])
    assert_machines_equal_oracle(graph, {"x": sample, "gy": gy}, STEPS)


@given(st.fixed_dictionaries(small).filter(fits), widths)
@settings(max_examples=45, deadline=None)
def test_input_gradient_is_the_float_gradient(case, dtype):
    """Against the transpose of the float convolution, found by applying it to every basis image."""
    graph, gy, forward = input_gradient_graph(case, dtype=dtype)
    values = assert_machines_equal_oracle(graph, {"gy": gy}, steps=2)
    exponent = int(graph["state"].data[0]) if "state" not in values else int(values["state"][0])
    got = values["y"].astype(np.float64) * 2.0**exponent
    node = forward.node("conv2d")
    weight = np.zeros((forward["y"].shape[-1], *case["kernel"], forward["x"].shape[-1]))
    for (c0, cn, i0, count), name in zip(node.attrs["blocks"], node.inputs[2:], strict=True):
        weight[c0 : c0 + cn, ..., i0 : i0 + count] = (
            forward[name].data * forward[name].quantization.scale[:, None, None, None]
        )
    want = np.array([
        np.sum(float_conv(basis.reshape(forward["x"].shape), weight, case) * gy * 2.0**-12)
        for basis in np.eye(forward["x"].size)
    ]).reshape(forward["x"].shape)  # fmt: skip
    # the output's rounding, and half a unit of gy's scaled mantissa per product; that of int8 is finer
    unit = {"int16": 2.0**-12, "int8": 2.0**-20}[dtype]
    scale = np.max(forward["w0"].quantization.scale)
    bound = ROUNDING[dtype] * 2.0**exponent + np.prod(weight.shape[:3]) * 127 * unit * 2 * scale
    assert np.max(np.abs(got - want)) <= bound


def float_conv(x, weight, case):
    torch = pytest.importorskip("torch")
    t, b, left, r = case["padding"]
    padded = np.pad(x, ((t, b), (left, r), (0, 0)))
    image = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1))[None])
    kernel = torch.from_numpy(np.ascontiguousarray(weight.transpose(0, 3, 1, 2)))
    return torch.nn.functional.conv2d(image, kernel, stride=case["strides"])[0].numpy().transpose(1, 2, 0)


def test_a_sum_that_may_overflow_is_refused():
    weight = np.zeros((1, 9, 9, 1024), np.int8)
    inputs = {
        "x": activation("x", (9, 9, 1024)),
        "bias": constant("bias", np.zeros(1, np.int32)),
        "w": constant("w", weight, [0.1], 0),
    }
    with pytest.raises(GraphError, match="conv2d"):
        one_node("conv2d", inputs, {"clamp": (-128, 127), "rounding": "double"}, {})
