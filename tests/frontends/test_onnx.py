# SPDX-License-Identifier: Apache-2.0
"""The ONNX front end: every operator against onnxruntime within one step, folding, layouts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.frontends.onnx_file import OnnxFile
from tests.frontends.oracles import assert_near_onnxruntime, load_content, random_input
from tinytrain.errors import ModelError
from tinytrain.graph import Graph, to_text
from tinytrain.ops import evaluate

rng = np.random.default_rng(2)
Built = tuple[OnnxFile, str]
X_SCALE, X_ZERO = 0.05, -3


def weights(*shape: int, dtype: type = np.int8) -> np.ndarray:
    return (
        rng.integers(-127, 128, shape).astype(dtype) if dtype is np.int8 else rng.integers(1, 256, shape).astype(dtype)
    )


def scales(count: int) -> np.ndarray:
    return rng.uniform(0.002, 0.02, count).astype(np.float32)


def begin(*shape: Any, dtype: type = np.int8) -> Built:
    """A file with a quantized input."""
    file = OnnxFile(shape)
    return file, file.qdq("input", X_SCALE, X_ZERO + (128 if dtype is np.uint8 else 0), dtype)


def conv(
    file: OnnxFile, x: str, channels: int, out: int, kernel: int = 3, group: int = 1, bias: bool = True, **attrs: Any
) -> str:
    """A convolution without the quantization of its output."""
    s = scales(out)
    inputs = [x, file.weight(weights(out, channels // group, kernel, kernel), s, 0)]
    if bias:
        values = rng.integers(-3000, 3000, out).astype(np.int32)
        inputs.append(file.weight(values, np.float32(X_SCALE) * s, 0))
    return file.node("Conv", inputs, group=group, **attrs)


def conv_model(activation: Callable[[OnnxFile, str], str] | None = None, channels: int = 3, **options: Any) -> Built:
    file, x = begin(1, channels, 9, 7)
    y = conv(file, x, channels, options.pop("out", 6), **options)
    return file, file.qdq(activation(file, y) if activation else y, 0.09, 7)


def clip6(file: OnnxFile, x: str) -> str:
    return file.node("Clip", [x, file.constant(np.float32(0)), file.constant(np.float32(6))])


def uint8_model() -> Built:
    file, x = begin(1, 3, 9, 7, dtype=np.uint8)
    s = scales(4)
    w = file.weight(weights(4, 3, 3, 3, dtype=np.uint8), s, 0, zero=128)
    y = file.node("Conv", [x, w, file.constant(rng.normal(0, 1, 4).astype(np.float32))], pads=[1, 1, 1, 1])
    return file, file.qdq(file.node("Relu", [y]), 0.09, 0, np.uint8)


def gemm_model(transposed: bool = True, per_channel: bool = True) -> Built:
    file, x = begin(1, 12)
    s = scales(6) if per_channel else np.float32(0.01)
    shape, axis = ((6, 12), 0) if transposed else ((12, 6), 1)
    w = file.weight(weights(*shape), s, axis if per_channel else None)
    b = file.weight(rng.integers(-3000, 3000, 6).astype(np.int32), np.float32(X_SCALE) * s, 0 if per_channel else None)
    return file, file.qdq(file.node("Gemm", [x, w, b], transB=int(transposed)), 0.21, 4)


def matmul_model(bias: str) -> Built:
    file, x = begin(1, 12)
    y = file.node("MatMul", [x, file.weight(weights(12, 6), scales(6), 1)])
    if bias == "float":
        y = file.node("Add", [y, file.constant(rng.normal(0, 1, 6).astype(np.float32))])
    elif bias == "int8":
        y = file.node("Add", [file.weight(weights(6), np.float32(0.02)), y])
    return file, file.qdq(file.node("Relu", [y]), 0.15, -128)


def flatten_model(op: str, between: str = "") -> Built:
    """An image of several pixels and channels, flattened before a fully connected layer."""
    file, x = begin(1, 3, 4, 5)
    if op == "Flatten":
        flat = file.node("Flatten", [x])
    else:
        flat = file.node("Reshape", [x, file.constant(np.array([0, -1]))])
    if between == "Relu":
        flat = file.qdq(file.node("Relu", [flat]), 0.04, -10)
    elif between == "qdq":
        flat = file.qdq(flat, X_SCALE, X_ZERO)
    y = file.node("Gemm", [flat, file.weight(weights(6, 60), scales(6), 0)], transB=1)
    return file, file.qdq(y, 0.3, 4)


def binary_model(op: str, other: str) -> Built:
    file, x = begin(1, 3, 6, 5)
    if other == "pooled":
        b = file.qdq(file.node("MaxPool", [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), X_SCALE, X_ZERO)
    elif other == "gate":
        b = file.qdq(file.node("GlobalAveragePool", [x]), 0.031, 9)
    else:
        b = file.weight(np.array(87, np.int8), 0.013, None, zero=5)
    return file, file.qdq(file.node("Relu", [file.node(op, [b, x])]), 0.06, 2)


def unary_model(op: str, shape: tuple[int, ...] = (1, 3, 8, 7), same: bool = True, **attrs: Any) -> Built:
    file, x = begin(*shape)
    y = file.node(op, [x], **attrs)
    return file, file.qdq(y, *((X_SCALE, X_ZERO) if same else (0.037, 11)))


def pad_model(followed: bool) -> Built:
    file, x = begin(1, 3, 9, 7)
    x = file.qdq(file.node("Pad", [x, file.constant(np.array([0, 0, 1, 0, 0, 0, 2, 1]))]), X_SCALE, X_ZERO)
    return file, file.qdq(conv(file, x, 3, 4, pads=[1, 1, 1, 1]), 0.09, 7) if followed else x


def mean_of_newer_opset() -> Built:
    """Since opset 18 the axes are an input; here they come from a Constant node."""
    file = OnnxFile((1, 3, 8, 7), opset=18)
    axes = file.node("Constant", [], value_ints=[-2, -1])
    y = file.node("ReduceMean", [file.qdq("input", X_SCALE, X_ZERO), axes], keepdims=0)
    return file, file.qdq(y, 0.037, 11)


def softmax_model(quantized: bool) -> Built:
    file, x = begin(1, 10)
    y = file.node("Softmax", [x])
    return file, file.qdq(y, 0.0035, -128) if quantized else y


def reshape_chain(*shapes: tuple[int, ...]) -> Built:
    file, x = begin(1, 3, 4, 5)
    for shape in shapes:
        x = file.qdq(file.node("Reshape", [x, file.constant(np.array(shape))]), X_SCALE, X_ZERO)
    return file, x


def transpose_chain(*perms: tuple[int, ...]) -> Built:
    file, x = begin(1, 3, 4, 5)
    for perm in perms:
        x = file.qdq(file.node("Transpose", [x], perm=perm), X_SCALE, X_ZERO)
    return file, x


def nhwc_model() -> Built:
    """As converters from TensorFlow write it: NHWC input, transposed, and transposed back."""
    file, x = begin(1, 6, 5, 3)
    x = file.qdq(file.node("Transpose", [x], perm=[0, 3, 1, 2]), X_SCALE, X_ZERO)
    y = file.qdq(conv(file, x, 3, 4, pads=[1, 1, 1, 1]), 0.09, 7)
    y = file.qdq(file.node("Transpose", [y], perm=[0, 2, 3, 1]), 0.09, 7)
    y = file.qdq(file.node("Reshape", [y, file.constant(np.array([1, -1]))]), 0.09, 7)
    y = file.node("Gemm", [y, file.weight(weights(6, 120), scales(6), 0)], transB=1)
    return file, file.qdq(y, 0.5, 4)


POOL: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
OPERATORS: dict[str, Callable[[], Built]] = {
    "conv": lambda: conv_model(pads=[1, 1, 1, 1]),
    "conv asymmetric pads": lambda: conv_model(pads=[0, 1, 2, 1], strides=[2, 1], bias=False),
    "conv same upper": lambda: conv_model(auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": lambda: conv_model(auto_pad="SAME_LOWER", strides=[2, 2], kernel=2),
    "conv valid": lambda: conv_model(auto_pad="VALID"),
    "conv relu": lambda: conv_model(lambda file, x: file.node("Relu", [x])),
    "conv relu6": lambda: conv_model(clip6),
    "depthwise": lambda: conv_model(channels=4, out=4, group=4, pads=[1, 1, 1, 1]),
    "depthwise multiplier 2": lambda: conv_model(channels=4, out=8, group=4, strides=[2, 2]),
    "uint8": uint8_model,
    "gemm": gemm_model,
    "gemm not transposed": lambda: gemm_model(transposed=False),
    "gemm per tensor": lambda: gemm_model(per_channel=False),
    "matmul": lambda: matmul_model(""),
    "matmul float bias": lambda: matmul_model("float"),
    "matmul int8 bias": lambda: matmul_model("int8"),
    "flatten gemm": lambda: flatten_model("Flatten"),
    "reshape gemm": lambda: flatten_model("Reshape", "qdq"),
    "flatten relu gemm": lambda: flatten_model("Flatten", "Relu"),
    "add": lambda: binary_model("Add", "pooled"),
    "add a scalar": lambda: binary_model("Add", "scalar"),
    "mul": lambda: binary_model("Mul", "pooled"),
    "mul by a gate": lambda: binary_model("Mul", "gate"),
    "mul by a scalar": lambda: binary_model("Mul", "scalar"),
    "max pool": lambda: unary_model("MaxPool", pads=[1, 1, 1, 1], **POOL),
    "max pool ceil": lambda: unary_model("MaxPool", ceil_mode=1, **POOL),
    "average pool": lambda: unary_model("AveragePool", pads=[1, 1, 1, 1], **POOL),
    "average pool ceil": lambda: unary_model("AveragePool", ceil_mode=1, **POOL),
    "average pool counting pads": lambda: unary_model("AveragePool", pads=[1, 1, 1, 1], count_include_pad=1, **POOL),
    "average pool requantized": lambda: unary_model("AveragePool", same=False, **POOL),
    "global average pool": lambda: unary_model("GlobalAveragePool", same=False),
    "reduce mean": lambda: unary_model("ReduceMean", axes=[2, 3], keepdims=0),
    "reduce mean, opset 18": mean_of_newer_opset,
    "reduce mean of columns": lambda: unary_model("ReduceMean", axes=[-1], keepdims=1, same=False),
    "relu": lambda: unary_model("Relu", same=False),
    "requantize": lambda: unary_model("Identity", same=False),
    "pad": lambda: pad_model(False),
    "pad conv": lambda: pad_model(True),
    "softmax": lambda: softmax_model(True),
    "float softmax at the end": lambda: softmax_model(False),
    "reshape to a vector": lambda: reshape_chain((1, 60)),
    "reshape to an image": lambda: reshape_chain((1, 60), (1, 5, 6, 2)),
    "reshape an image": lambda: reshape_chain((1, 6, 5, 2)),
    "squeeze": lambda: unary_model("Squeeze", (1, 3, 1, 5)),
    "transpose": lambda: transpose_chain((0, 2, 1, 3), (0, 3, 1, 2)),
    "transpose and back": lambda: transpose_chain((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3)),
    "NHWC": nhwc_model,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_is_within_one_step_of_onnxruntime(name: str, tmp_path: Path) -> None:
    file, y = OPERATORS[name]()
    content = file.content(y)
    graph = load_content(content, tmp_path, "model.onnx")
    for seed in range(3):
        assert_near_onnxruntime(content, graph, random_input(graph, seed))


def load(built: Built, folder: Path) -> Graph:
    file, y = built
    return load_content(file.content(y), folder, "model.onnx")


def test_text_form(tmp_path: Path) -> None:
    assert to_text(load(conv_model(clip6, pads=[1, 1, 1, 1], out=2), tmp_path)) == (
        "graph model\n"
        "  input  quantizelinear0_out: int8[9, 7, 3]\n"
        "  quantizelinear6_out: int8[9, 7, 2] = conv2d(quantizelinear0_out, constant7[2], constant4[2, 3, 3, 3]) "
        "clamp=[7,74] padding=[1,1,1,1] rounding=double strides=[1,1]\n"
        "  output quantizelinear6_out\n"
    )


def test_uint8_is_seen_128_lower(tmp_path: Path) -> None:
    graph = load(uint8_model(), tmp_path)
    assert graph[graph.inputs[0]].zero_point == X_ZERO
    assert graph[graph.outputs[0]].zero_point == -128
    assert graph.nodes[0].attrs["clamp"] == (-128, 127)


def test_flattened_image_permutes_the_columns_of_the_layer_behind_it(tmp_path: Path) -> None:
    assert [node.op for node in load(flatten_model("Flatten"), tmp_path).nodes] == ["reshape", "fully_connected"]
    moved = load(flatten_model("Flatten", "Relu"), tmp_path)
    assert [node.op for node in moved.nodes] == ["transpose", "reshape", "requantize", "fully_connected"]


def test_nhwc_files_need_no_transpose(tmp_path: Path) -> None:
    graph = load(nhwc_model(), tmp_path)
    assert [node.op for node in graph.nodes] == ["conv2d", "reshape", "fully_connected"]
    assert graph.attrs["input_layout"] == "HWC"


def test_pad_is_folded_into_the_convolution(tmp_path: Path) -> None:
    graph = load(pad_model(True), tmp_path)
    assert [node.op for node in graph.nodes] == ["conv2d"]
    assert graph.nodes[0].attrs["padding"] == (2, 3, 1, 2)


def test_bias_near_the_end_of_32_bits_is_kept(tmp_path: Path) -> None:
    file, x = begin(1, 2, 3, 3)
    s = np.array([4e-9, 0.01], np.float32)
    values = np.array([2**31 - 100, -5], np.int32)
    bias = file.weight(values, np.float32(X_SCALE) * s, 0)
    y = file.node("Conv", [x, file.weight(weights(2, 2, 1, 1), s, 0), bias])
    graph = load((file, file.qdq(y, 0.09, 7)), tmp_path)
    stored = graph[graph.nodes[0].inputs[1]].data
    assert stored is not None and stored.tolist() == values.tolist()


def test_weights_that_the_file_quantizes_itself(tmp_path: Path) -> None:
    file, x = begin(1, 12)
    s = scales(6)
    real = rng.normal(0, 0.5, (6, 12)).astype(np.float32)
    stored = file.node(
        "QuantizeLinear", [file.constant(real), file.constant(s), file.constant(np.zeros(6, np.int8))], axis=0
    )
    w = file.node("Transpose", [file.dequantize(stored, s, 0, axis=0)], perm=[1, 0])
    content = file.content(file.qdq(file.node("MatMul", [x, w]), 0.1, 4))
    graph = load_content(content, tmp_path, "model.onnx")
    assert_near_onnxruntime(content, graph, random_input(graph))


def test_shape_arithmetic_of_torch_is_not_needed(tmp_path: Path) -> None:
    """x.view(x.size(0), -1) exports as Shape, Gather, Unsqueeze, Concat."""
    file = OnnxFile(("batch", 3, 4, 5))
    x = file.qdq("input", X_SCALE, X_ZERO)
    size = file.node("Gather", [file.node("Shape", [x]), file.constant(np.array(0))])
    batch = file.node("Unsqueeze", [size, file.constant(np.array([0]))])
    target = file.node("Concat", [batch, file.constant(np.array([-1]))], axis=0)
    flat = file.node("Reshape", [x, target])
    y = file.node("Gemm", [flat, file.weight(weights(6, 60), scales(6), 0)], transB=1)
    content = file.content(file.qdq(y, 0.3, 4))
    graph = load_content(content, tmp_path, "model.onnx")
    assert_near_onnxruntime(content, graph, random_input(graph))


def test_weights_in_a_file_beside_the_model(tmp_path: Path) -> None:
    file, y = gemm_model()
    onnx.save(
        file.model(y), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    from tinytrain.frontends import load_model

    graph = load_model(tmp_path / "model.onnx")
    assert evaluate(graph, {graph.inputs[0]: random_input(graph)})[graph.outputs[0]].shape == (6,)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_model(tmp_path / "model.onnx")


# --- refusals ---------------------------------------------------------------------------------------------------------


def with_node(op: str, count: int = 1, **attrs: Any) -> Built:
    file, x = begin(1, 4, 6, 6)
    for number in range(count):
        x = file.qdq(file.node(op, [x], name=f"odd{number}", **attrs), X_SCALE, X_ZERO)
    return file, x


def float_file() -> Built:
    file = OnnxFile((1, 4))
    return file, file.node("Relu", ["input"])


def without_output_quantization() -> Built:
    file, x = begin(1, 4, 6, 6)
    return file, conv(file, x, 4, 2)


def float_operator_between() -> Built:
    file, x = begin(1, 4, 6, 6)
    x = file.node("Relu", [conv(file, x, 4, 2)], name="first")
    return file, file.qdq(conv(file, x, 2, 2), 0.1)


def dynamic() -> Built:
    file = OnnxFile((1, 3, "height", 7))
    return file, file.qdq("input", X_SCALE)


def asymmetric_weights() -> Built:
    file, x = begin(1, 12)
    y = file.node("MatMul", [x, file.weight(weights(12, 6, dtype=np.uint8), 0.01, None, zero=117)], name="dense")
    return file, file.qdq(y, 0.1)


def qlinear() -> Built:
    file = OnnxFile((1, 3, 4, 4))
    q = file.quantize("input", 0.1)
    s, z = file.constant(np.float32(0.1)), file.constant(np.int8(0))
    y = file.node("QLinearConv", [q, s, z, file.constant(weights(2, 3, 1, 1)), s, z, s, z], name="old")
    return file, file.dequantize(y, 0.1)


def two_rows() -> Built:
    file, x = begin(1, 2, 12)
    return file, file.qdq(file.node("MatMul", [x, file.weight(weights(12, 6), 0.01)], name="dense"), 0.1)


def batch_of_two() -> Built:
    file, x = begin(2, 3, 8, 8)
    return file, file.qdq(conv(file, x, 3, 2), 0.1)


def reflected_pad() -> Built:
    file, x = begin(1, 3, 4, 4)
    y = file.node("Pad", [x, file.constant(np.array([0, 0, 1, 1] * 2))], name="odd", mode="reflect")
    return file, file.qdq(y, X_SCALE, X_ZERO)


REFUSALS: dict[str, tuple[Callable[[], Built], tuple[str, ...]]] = {
    "operator": (lambda: with_node("Sigmoid", 3), ("Sigmoid 'odd0' is not supported", "node 2", "Sigmoid (3)")),
    "float": (float_file, ("float model", "quantization is not available yet", "quantize_static")),
    "no quantization": (without_output_quantization, ("has no quantized output", "QuantizeLinear")),
    "float between": (float_operator_between, ("has no quantized output", "'first_out'", "after every operator")),
    "dynamic": (dynamic, ("shape of 'input' is dynamic: [1, 3, height, 7]", "fixed shapes")),
    "batch": (batch_of_two, ("batch of 1",)),
    "dilations": (lambda: conv_model(dilations=[2, 2]), ("has the dilations [2, 2]", "Conv")),
    "groups": (lambda: conv_model(channels=4, out=4, group=2), ("grouped convolution", "2 groups on 4")),
    "asymmetric weights": (asymmetric_weights, ("MatMul 'dense'", "not symmetric int8", "QuantType.QInt8")),
    "QOperator": (qlinear, ("QLinearConv 'old'", "QuantFormat.QDQ")),
    "two rows": (two_rows, ("more than one vector",)),
    "softmax over rows": (lambda: with_node("Softmax", axis=2), ("Softmax 'odd0' works along dimension 2",)),
    "mean over channels and rows": (lambda: with_node("ReduceMean", axes=[0]), ("dimension 0", "batch")),
    "reflected pad": (reflected_pad, ("Pad 'odd' pads in the mode 'reflect'",)),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_names_what_is_in_the_way(name: str, tmp_path: Path) -> None:
    build, expected = REFUSALS[name]
    with pytest.raises(ModelError) as caught:
        load(build(), tmp_path)
    message = str(caught.value)
    assert all(part in message for part in (*expected, "model.onnx")), message
    assert caught.value.fix
