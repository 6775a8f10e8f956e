# SPDX-License-Identifier: Apache-2.0
"""The TFLite front end: every operator against LiteRT's reference kernels, folding, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frontends.oracles import assert_equals_litert, load_content, random_input
from tests.frontends.tflite_file import RELU, RELU6, SAME, TANH, VALID, TfliteFile
from tinytrain.errors import ModelError
from tinytrain.graph import Graph, to_text

Model = tuple[TfliteFile, int, int]  # file, input tensor, output tensor
rng = np.random.default_rng(1)


def weights(*shape: int) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def biases(count: int) -> np.ndarray:
    return rng.integers(-3000, 3000, count).astype(np.int32)


def scales(count: int) -> list[float]:
    return rng.uniform(0.002, 0.02, count).tolist()


def conv_model(
    code: str = "CONV_2D",
    size: tuple[int, int] = (9, 7),
    channels: int = 3,
    out: int = 5,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: int = SAME,
    activation: int = 0,
    per_channel: bool = True,
    bias: bool = True,
    **options: int,
) -> Model:
    file = TfliteFile()
    x = file.tensor((1, *size, channels), 0.05, -3, name="x")
    shape, axis = ((out, *kernel, channels), 0) if code == "CONV_2D" else ((1, *kernel, out), 3)
    w = file.constant(weights(*shape), scales(out) if per_channel else 0.01, axis=axis)
    b = [file.constant(biases(out), [0.001] * out if per_channel else 0.001)] if bias else []
    if padding == SAME:
        result = [-(-extent // stride) for extent in size]
    else:
        result = [(extent - width) // stride + 1 for extent, width in zip(size, kernel, strict=True)]
    y = file.tensor((1, *result, out), 0.09, 7, name="y")
    extra = {} if code == "CONV_2D" else {"DepthMultiplier": out // channels}
    options = {"StrideH": stride, "StrideW": stride, "Padding": padding, **extra, **options}
    file.op(code, [x, w, *b], [y], FusedActivationFunction=activation, **options)
    return file, x, y


def dense_model(
    per_channel: bool = False, shape: tuple[int, ...] = (1, 12), bias: bool = True, activation: int = 0
) -> Model:
    file = TfliteFile()
    size = int(np.prod(shape))
    x = file.tensor(shape, 0.05, -3, name="x")
    w = file.constant(weights(6, size), scales(6) if per_channel else 0.011)
    b = file.constant(biases(6), 0.00055) if bias else -1
    y = file.tensor((1, 6), 0.21, 4, name="y")
    file.op("FULLY_CONNECTED", [x, w, b], [y], FusedActivationFunction=activation)
    return file, x, y


def binary_model(
    code: str, left: tuple[int, ...], right: tuple[int, ...], activation: int = 0, swap: bool = False
) -> Model:
    """An elementwise operator of the input and a max pool of it (or its global mean, or a constant scalar)."""
    file = TfliteFile()
    x = file.tensor(left, 0.05, -3, name="x")
    if right == left:
        other = file.tensor(left, 0.05, -3, name="pooled")
        file.op("MAX_POOL_2D", [x], [other], Padding=SAME, StrideH=1, StrideW=1, FilterHeight=2, FilterWidth=2)
    elif right == (1,):
        other = file.constant(np.array([87], np.int8), 0.013, 5)
    else:
        other = file.tensor(right, 0.031, 9, name="gate")
        file.op("MEAN", [x, file.constant(np.array([1, 2], np.int32))], [other], KeepDims=True)
    y = file.tensor(left, 0.06, 2, name="y")
    file.op(code, [other, x] if swap else [x, other], [y], FusedActivationFunction=activation)
    return file, x, y


def unary_model(
    code: str,
    shape: tuple[int, ...],
    result: tuple[int, ...],
    *constants: np.ndarray,
    same: bool = True,
    **options: float,
) -> Model:
    file = TfliteFile()
    x = file.tensor(shape, 0.05, -3, name="x")
    y = file.tensor(result, *((0.05, -3) if same else (0.037, 11)), name="y")
    file.op(code, [x, *(file.constant(data) for data in constants)], [y], **options)
    return file, x, y


def softmax_model() -> Model:
    file = TfliteFile()
    x = file.tensor((1, 10), 0.12, 3, name="x")
    y = file.tensor((1, 10), 1 / 256, -128, name="y")
    file.op("SOFTMAX", [x], [y])
    return file, x, y


def ints(*values: object) -> np.ndarray:
    return np.array(values, np.int32)


POOL: dict[str, Any] = {"StrideH": 2, "StrideW": 2, "FilterHeight": 3, "FilterWidth": 3}
OPERATORS: dict[str, Callable[[], Model]] = {
    "conv same": lambda: conv_model(),
    "conv same stride 2": lambda: conv_model(stride=2, activation=RELU6),
    "conv same stride 2 even": lambda: conv_model(size=(8, 8), stride=2, activation=RELU),
    "conv valid": lambda: conv_model(padding=VALID, stride=2),
    "conv 1x1 stride 2": lambda: conv_model(kernel=(1, 1), stride=2),
    "conv per tensor": lambda: conv_model(per_channel=False),
    "depthwise": lambda: conv_model("DEPTHWISE_CONV_2D", channels=4, out=4, activation=RELU6),
    "depthwise multiplier 2": lambda: conv_model("DEPTHWISE_CONV_2D", channels=4, out=8, stride=2),
    "depthwise of one channel": lambda: conv_model("DEPTHWISE_CONV_2D", channels=1, out=8, kernel=(5, 4), stride=2),
    "dense": lambda: dense_model(activation=RELU),
    "dense per channel": lambda: dense_model(per_channel=True),
    "dense of an image": lambda: dense_model(shape=(1, 2, 3, 4), bias=False),
    "add": lambda: binary_model("ADD", (1, 6, 5, 3), (1, 6, 5, 3), RELU),
    "add a scalar": lambda: binary_model("ADD", (1, 6, 5, 3), (1,), RELU6),
    "mul": lambda: binary_model("MUL", (1, 6, 5, 3), (1, 6, 5, 3)),
    "mul by a gate": lambda: binary_model("MUL", (1, 6, 5, 3), (1, 1, 1, 3)),
    "mul of a gate": lambda: binary_model("MUL", (1, 6, 5, 3), (1, 1, 1, 3), swap=True),
    "mul by a scalar": lambda: binary_model("MUL", (1, 6, 5, 3), (1,), swap=True),
    "average pool": lambda: unary_model("AVERAGE_POOL_2D", (1, 7, 8, 3), (1, 4, 4, 3), Padding=SAME, **POOL),
    "average pool valid": lambda: unary_model("AVERAGE_POOL_2D", (1, 7, 8, 3), (1, 3, 3, 3), Padding=VALID, **POOL),
    "max pool": lambda: unary_model("MAX_POOL_2D", (1, 7, 8, 3), (1, 4, 4, 3), Padding=SAME, **POOL),
    "max pool relu": lambda: unary_model(
        "MAX_POOL_2D", (1, 7, 8, 3), (1, 3, 3, 3), Padding=VALID, FusedActivationFunction=RELU, **POOL
    ),
    "mean": lambda: unary_model("MEAN", (1, 7, 6, 3), (1, 3), ints(1, 2), same=False, KeepDims=False),
    "mean same scale": lambda: unary_model("MEAN", (1, 7, 6, 3), (1, 1, 1, 3), ints(1, 2), KeepDims=True),
    "mean of rows": lambda: unary_model("MEAN", (1, 7, 6, 3), (1, 7, 1, 3), ints(-2), KeepDims=True),
    "relu": lambda: unary_model("RELU", (1, 6, 5, 3), (1, 6, 5, 3), same=False),
    "relu6": lambda: unary_model("RELU6", (1, 6, 5, 3), (1, 6, 5, 3), same=False),
    "relu n1 to 1": lambda: unary_model("RELU_N1_TO_1", (1, 6, 5, 3), (1, 6, 5, 3), same=False),
    "requantize": lambda: unary_model("QUANTIZE", (1, 6, 5, 3), (1, 6, 5, 3), same=False),
    "pad": lambda: unary_model("PAD", (1, 4, 5, 3), (1, 6, 5, 6), ints((0, 0), (2, 0), (0, 0), (1, 2))),
    "reshape": lambda: unary_model("RESHAPE", (1, 4, 5, 3), (1, 60), ints(1, 60)),
    "squeeze": lambda: unary_model("SQUEEZE", (1, 1, 5, 3), (1, 5, 3)),
    "expand dims": lambda: unary_model("EXPAND_DIMS", (1, 5, 3), (1, 5, 1, 3), ints(2)),
    "transpose": lambda: unary_model("TRANSPOSE", (1, 4, 5, 3), (1, 3, 4, 5), ints(0, 3, 1, 2)),
    "softmax": softmax_model,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_litert(name: str, tmp_path: Path) -> None:
    file, x, y = OPERATORS[name]()
    content = file.content([x], [y])
    graph = load_content(content, tmp_path, "model.tflite")
    for seed in range(3):
        assert assert_equals_litert(content, graph, random_input(graph, seed)) >= 1


def load(file: TfliteFile, inputs: list[int], outputs: list[int], folder: Path) -> Graph:
    return load_content(file.content(inputs, outputs), folder, "model.tflite")


def padded_conv(readers: int = 1) -> tuple[TfliteFile, int, int]:
    file = TfliteFile()
    x = file.tensor((1, 6, 6, 2), 0.05, -3, name="x")
    padded = file.tensor((1, 8, 9, 2), 0.05, -3, name="padded")
    file.op("PAD", [x, file.constant(ints((0, 0), (1, 1), (1, 2), (0, 0)))], [padded])
    y = file.tensor((1, 6, 7, 4), 0.09, 7, name="y")
    file.op(
        "CONV_2D",
        [padded, file.constant(weights(4, 3, 3, 2), scales(4)), file.constant(biases(4), 0.0005)],
        [y],
        Padding=VALID,
    )
    if readers == 1:
        return file, x, y
    z = file.tensor((1, 8, 9, 2), 0.05, -3, name="z")
    file.op("RELU", [padded], [z])
    w = file.tensor((1, 6, 7, 4), 0.09, 7, name="w")
    file.op(
        "CONV_2D",
        [z, file.constant(weights(4, 3, 3, 2), scales(4)), file.constant(biases(4), 0.0005)],
        [w],
        Padding=VALID,
    )
    total = file.tensor((1, 6, 7, 4), 0.09, 7, name="total")
    file.op("ADD", [y, w], [total])
    return file, x, total


def test_pad_becomes_the_padding_of_its_only_convolution(tmp_path: Path) -> None:
    file, x, y = padded_conv()
    graph = load(file, [x], [y], tmp_path)
    assert [node.op for node in graph.nodes] == ["conv2d"]
    assert graph.nodes[0].attrs["padding"] == (1, 1, 1, 2)
    assert_equals_litert(file.content([x], [y]), graph, random_input(graph))


def test_pad_with_two_readers_stays(tmp_path: Path) -> None:
    file, x, y = padded_conv(readers=2)
    graph = load(file, [x], [y], tmp_path)
    assert [node.op for node in graph.nodes] == ["pad", "conv2d", "requantize", "conv2d", "add"]
    assert_equals_litert(file.content([x], [y]), graph, random_input(graph))


def test_transpose_of_the_input_is_folded(tmp_path: Path) -> None:
    file = TfliteFile()
    x = file.tensor((1, 2, 6, 5), 0.05, -3, name="chw")
    turned = file.tensor((1, 6, 5, 2), 0.05, -3, name="hwc")
    file.op("TRANSPOSE", [x, file.constant(ints(0, 2, 3, 1))], [turned])
    y = file.tensor((1, 6, 5, 4), 0.09, 7, name="y")
    file.op(
        "CONV_2D",
        [turned, file.constant(weights(4, 1, 1, 2), scales(4)), file.constant(biases(4), 0.0005)],
        [y],
        Padding=VALID,
    )
    graph = load(file, [x], [y], tmp_path)
    assert graph.inputs == ["hwc"] and graph["hwc"].shape == (6, 5, 2)
    assert graph.attrs["input_layout"] == "CHW"
    assert_equals_litert(file.content([x], [y]), graph, random_input(graph))


@pytest.mark.parametrize("edge", ["float32", "uint8"])
def test_quantize_at_the_edges_is_folded(edge: str, tmp_path: Path) -> None:
    file = TfliteFile()
    outside = (None, 0) if edge == "float32" else (0.05, 125)
    x = file.tensor((1, 12), *outside, dtype=edge, name="outside")
    inside = file.tensor((1, 12), 0.05, -3, name="inside")
    file.op("QUANTIZE", [x], [inside])
    y = file.tensor((1, 6), 0.2, 4, name="y")
    file.op("FULLY_CONNECTED", [inside, file.constant(weights(6, 12), 0.01), -1], [y])
    z = file.tensor((1, 6), *((None, 0) if edge == "float32" else (0.2, 132)), dtype=edge, name="z")
    file.op("DEQUANTIZE" if edge == "float32" else "QUANTIZE", [y], [z])
    graph = load(file, [x], [z], tmp_path)
    assert [node.op for node in graph.nodes] == ["fully_connected"]
    assert graph[graph.inputs[0]].zero_point == -3
    assert graph.outputs == ["y"]


def test_text_form(tmp_path: Path) -> None:
    file, x, y = conv_model(size=(4, 4), channels=2, out=3, stride=2, activation=RELU6)
    assert to_text(load(file, [x], [y], tmp_path)) == (
        "graph model\n"
        "  input  x: int8[4, 4, 2]\n"
        "  y: int8[2, 2, 3] = conv2d(x, t2[3], t1[3, 3, 3, 2]) "
        "clamp=[7,74] padding=[0,1,0,1] rounding=double strides=[2,2]\n"
        "  output y\n"
    )


def test_left_out_bias_is_zero(tmp_path: Path) -> None:
    file, x, y = conv_model(bias=False)
    graph = load(file, [x], [y], tmp_path)
    bias = graph[graph.nodes[0].inputs[1]]
    assert bias.shape == (5,) and bias.dtype == "int32" and bias.data is not None and not bias.data.any()


def test_constant_operand_comes_second(tmp_path: Path) -> None:
    file, x, y = binary_model("MUL", (1, 6, 5, 3), (1,), swap=True)
    graph = load(file, [x], [y], tmp_path)
    (node,) = graph.nodes
    assert node.inputs[0] == "x" and graph[node.inputs[1]].data is not None
    assert graph[node.inputs[1]].quantization is not None and graph[node.inputs[1]].zero_point == 5


def test_free_batch_dimension_becomes_one(tmp_path: Path) -> None:
    file, x, y = conv_model()
    file.tensors[x]["signature"] = [-1, *file.tensors[x]["shape"][1:]]
    assert load(file, [x], [y], tmp_path)["x"].shape == (9, 7, 3)


# --- refusals ---------------------------------------------------------------------------------------------------------


def unsupported_model() -> Model:
    file = TfliteFile()
    tensors = [file.tensor((1, 4, 4, 2), 0.1, 0, name=name) for name in ("x", "lrn", "up", "up2")]
    for code, source, target in zip(("LOGISTIC", "TANH", "TANH"), tensors, tensors[1:], strict=False):
        file.op(code, [source], [target])
    return file, tensors[0], tensors[-1]


def float_model() -> Model:
    file = TfliteFile()
    x, y = (file.tensor((1, 4), dtype="float32", name=name) for name in "xy")
    file.op("RELU", [x], [y])
    return file, x, y


def float_in_the_middle() -> Model:
    file = TfliteFile()
    x = file.tensor((1, 4), 0.1, name="x")
    y, z = (file.tensor((1, 4), dtype="float32", name=name) for name in "yz")
    file.op("DEQUANTIZE", [x], [y])
    file.op("RELU", [y], [z])
    q = file.tensor((1, 4), 0.1, name="q")
    file.op("QUANTIZE", [z], [q])
    return file, x, q


def changed(model: Model, tensor: int, **fields: object) -> Model:
    model[0].tensors[tensor].update(fields)
    return model


REFUSALS: dict[str, tuple[Callable[[], Model], tuple[str, ...]]] = {
    "operator": (unsupported_model, ("LOGISTIC 'lrn' is not supported", "node 0 (LOGISTIC)", "TANH (2)", "fix")),
    "float": (float_model, ("float model", "quantization is not available yet", "quantize_static")),
    "float part": (float_in_the_middle, ("RELU 'z' works on floats", "node 1")),
    "dilation": (lambda: conv_model(DilationHFactor=2), ("CONV_2D 'y' has the dilation 2 x 1", "node 0")),
    "activation": (lambda: conv_model(activation=TANH), ("fused activation TANH", "RELU6")),
    "groups": (lambda: changed(conv_model(channels=4), 1, data=weights(5, 3, 3, 2), shape=[5, 3, 3, 2]), ("grouped",)),
    "weights with a zero point": (lambda: changed(conv_model(), 1, zero=[1] * 5), ("weight 't1' with a zero point",)),
    "weights of another type": (lambda: changed(conv_model(), 1, dtype="uint8"), ("type uint8",)),
    "no scale": (lambda: changed(conv_model(), 2 + 1, scale=[]), ("'y' that is without a scale",)),
    "int16": (lambda: changed(conv_model(), 2 + 1, dtype="int16"), ("writes int16",)),
    "zero scale": (lambda: changed(conv_model(), 0, scale=[0.0]), ("not above 0",)),
    "batch of two": (lambda: changed(conv_model(), 0, shape=[2, 9, 7, 3]), ("[2, 9, 7, 3]", "batch of 1")),
    "dynamic": (lambda: changed(conv_model(), 0, signature=[1, -1, 7, 3]), ("shape of 'x' is dynamic: [1, -1, 7, 3]",)),
    "wrong shape": (lambda: changed(conv_model(), 3, shape=[1, 9, 9, 5]), ("does not have the shape that the file",)),
    "mean over the batch": (
        lambda: unary_model("MEAN", (1, 7, 6, 3), (7, 6, 3), ints(0), KeepDims=False),
        ("MEAN 'y' averages over the axes",),
    ),
    "transposed batch": (
        lambda: unary_model("TRANSPOSE", (1, 4, 5, 3), (4, 1, 5, 3), ints(1, 0, 2, 3)),
        ("moves the batch dimension",),
    ),
    "pool that rescales": (
        lambda: unary_model("MAX_POOL_2D", (1, 7, 8, 3), (1, 3, 3, 3), same=False, Padding=VALID, **POOL),
        ("changes the scale",),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_what_is_in_the_way(name: str, tmp_path: Path) -> None:
    build, expected = REFUSALS[name]
    file, x, y = build()
    with pytest.raises(ModelError) as caught:
        load(file, [x], [y], tmp_path)
    message = str(caught.value)
    assert all(part in message for part in (*expected, "model.tflite")), message
    assert caught.value.fix


def test_two_outputs_are_refused(tmp_path: Path) -> None:
    file, x, y = binary_model("ADD", (1, 6, 5, 3), (1, 6, 5, 3))
    with pytest.raises(ModelError, match="2 outputs"):
        load(file, [x], [y, 1], tmp_path)
