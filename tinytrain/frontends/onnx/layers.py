# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that compute: Conv, Gemm, MatMul, Add, Mul, pools, ReduceMean, Relu, Clip, Softmax."""

from __future__ import annotations

import numpy as np

from tinytrain.frontends.builder import FULL_RANGE, Operand, padding_of
from tinytrain.frontends.onnx.convert import IMAGE, Converter, Value, handler
from tinytrain.frontends.onnx.reader import FileNode
from tinytrain.graph import Quantization

_AUTO_PAD = {"VALID": "VALID", "SAME_UPPER": "SAME", "SAME_LOWER": "SAME_LOWER"}
# as TFLite: two roundings. "single" is nearer to onnxruntime (a few integers in a million differ instead of 0.4 %)
ROUNDING = "double"
SOFTMAX_OUTPUT = Quantization.per_tensor(1 / 256, -128)


@handler("Conv")
def conv(c: Converter, node: FileNode) -> None:
    x = c.image(node)
    weight, scales = c.weight(node, 1, 0)
    if weight.data.ndim != 4:
        raise c.refuse(node, f"has weights of the shape {list(weight.data.shape)}", "2-D convolutions are supported")
    out_channels, group_channels, *kernel = weight.data.shape
    channels, group = c.build[x].shape[2], int(node.attrs.get("group", 1))
    strides, padding = _window(c, node, x, tuple(kernel))
    scales = np.broadcast_to(scales, (out_channels,)).copy()
    if group == 1:
        kind, axis, data = "conv2d", 0, weight.data.transpose(0, 2, 3, 1)
    elif group == channels and group_channels == 1:
        kind, axis, data = "depthwise_conv2d", 2, weight.data[:, 0].transpose(1, 2, 0)
    else:
        why = f"{group} groups on {channels} input channels"
        raise c.refuse(node, "is a grouped convolution", why, "use groups of 1, or a depthwise convolution")
    name = c.build.constant(weight.name, data, Quantization(scales, 0, axis))
    tail = c.tail(node)
    bias, bias_name = _bias(c, node, node.input(2), x, scales)
    y = c.write(tail, IMAGE)
    c.build.layer(
        kind, node.name, x, name, bias, bias_name, y,
        strides=strides, padding=padding, clamp=tail.clamp, rounding=ROUNDING,
    )  # fmt: skip


def _window(c: Converter, node: FileNode, x: str, kernel: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(strides, padding) of a convolution or pool."""
    strides = tuple(node.attrs.get("strides", (1, 1)))
    dilations = tuple(node.attrs.get("dilations", (1, 1)))
    pads = node.attrs.get("pads", (0, 0, 0, 0))
    declared = tuple(node.attrs.get("kernel_shape", kernel))
    if declared != kernel or len(strides) != 2 or len(pads) != 4 or min(*strides, *kernel) < 1:
        raise c.refuse(node, f"has a kernel {list(kernel)}, strides {list(strides)}, pads {list(pads)}")
    if dilations != (1, 1):
        raise c.refuse(node, f"has the dilations {list(dilations)}", "only 1 x 1 is supported")
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode not in ("NOTSET", *_AUTO_PAD):
        raise c.refuse(node, f"has the unknown auto_pad '{mode}'", fix="export the model again")
    if mode != "NOTSET":
        return strides, padding_of(_AUTO_PAD[mode], c.build[x].shape[:2], kernel, strides)
    if min(pads) < 0:
        raise c.refuse(node, f"has negative padding: {list(pads)}")
    top, left, bottom, right = pads
    return strides, (top, bottom, left, right)


def _bias(c: Converter, node: FileNode, name: str, x: str, scales: np.ndarray) -> tuple[np.ndarray | None, str]:
    """int32 bias in units of x scale * weight scale, and its name. One stored in those units is kept as it is."""
    if not name:
        return None, f"{node.name}.bias"
    stored = c.dequantized.get(name)
    unit = c.build[x].scale * scales
    if (
        stored is not None
        and stored.data.dtype == np.int32
        and stored.zero_point == 0
        and stored.axis in (None, 0)
        and stored.scale.size in (1, unit.size)
        and np.allclose(stored.scale, unit, rtol=1e-6, atol=0)
    ):
        return stored.data.reshape(-1), stored.name
    real = stored.real() if stored is not None else c.constants.get(name)
    if real is None:
        raise c.refuse(node, "has a bias that is not a constant", f"'{name}' is computed while the model runs")
    with np.errstate(all="ignore"):
        steps = np.rint(real.reshape(-1).astype(np.float64) / unit)
    if not (np.abs(steps) < 1 << 31).all():
        why = f"the largest is {np.abs(steps).max():.3g} steps of input scale * weight scale"
        raise c.refuse(node, "has a bias that does not fit 32 bits", why, "quantize the model again")
    return steps.astype(np.int32), stored.name if stored is not None else name


@handler("Gemm", "MatMul")
def fully_connected(c: Converter, node: FileNode) -> None:
    value = c.value(node)
    if any(node.attrs.get(key, default) != default for key, default in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))):
        raise c.refuse(node, "scales or transposes its operands", "alpha 1, beta 1 and transA 0 are supported")
    transposed = bool(node.attrs.get("transB", 0))
    weight, scales = c.weight(node, 1, 0 if transposed else 1)
    data = weight.data if transposed else weight.data.T
    if data.ndim != 2 or data.shape[1] != c.build[value.name].size:
        why = f"weights {list(weight.data.shape)} on an input of {c.build[value.name].size} elements"
        raise c.refuse(node, "works on more than one vector", why, "flatten its input to one vector")
    if value.chw is not None:  # the file's columns run over C, H, W, the graph's over H, W, C
        data = data.reshape(-1, *value.chw).transpose(0, 2, 3, 1).reshape(data.shape)
    meaning = Quantization(scales, 0, None if scales.size == 1 else 0)
    name = c.build.constant(weight.name, np.ascontiguousarray(data), meaning)
    tail = c.tail(node, bias=node.type == "MatMul")
    if tail.bias and c.shape(tail.bias)[-1:] != data.shape[:1]:
        raise c.refuse(node, "is followed by the addition of a constant that is no bias")
    bias, bias_name = _bias(c, node, node.input(2) or tail.bias, value.name, scales)
    if bias is not None and bias.shape != data.shape[:1]:
        if bias.size != 1:
            raise c.refuse(node, f"has a bias of {bias.size} elements for {data.shape[0]} outputs")
        bias = np.full(data.shape[:1], bias[0], np.int32)
    output = tail.outputs[0]
    layout = c.layout(output)
    y = c.build.fully_connected(
        node.name, value.name, name, bias, bias_name, output, c.ir_shape(output, layout), tail.meaning, tail.clamp
    )
    c.values.update(dict.fromkeys(tail.outputs, Value(y, layout)))


@handler("Add", "Mul")
def elementwise(c: Converter, node: FileNode) -> None:
    values = [
        None if node.input(i) in c.dequantized or node.input(i) in c.constants else c.value(node, i) for i in (0, 1)
    ]
    layouts = {value.layout for value in values if value is not None}
    if len(layouts) != 1 or any(value is not None and value.chw for value in values):
        raise c.refuse(node, "mixes operands of different layouts" if layouts else "has two constant operands")
    (layout,) = layouts
    rank = max(len(c.shape(name)) for name in node.inputs)
    a, b = (
        Operand(value.name) if value is not None else _constant_operand(c, node, name, layout, rank)
        for value, name in zip(values, node.inputs, strict=True)
    )
    tail = c.tail(node)
    y = c.write(tail, layout)
    c.build.binary(node.type.lower(), node.name, a, b, y, tail.clamp)


def _constant_operand(c: Converter, node: FileNode, name: str, layout: str, rank: int) -> Operand:
    """A quantized constant in the layout of the activation it meets, without leading ones."""
    stored = c.dequantized.get(name)
    if stored is None or stored.axis is not None or stored.data.dtype != np.int8:
        why = f"'{name}' is not int8 or uint8 with one scale"
        raise c.refuse(node, "has a constant operand that is not quantized", why, "quantize all of the model")
    data = stored.data.reshape((1,) * (rank - stored.data.ndim) + stored.data.shape)
    if layout == IMAGE:
        data = data[0].transpose(1, 2, 0)
    while data.ndim > 1 and data.shape[0] == 1:
        data = data[0]
    meaning = Quantization(stored.scale, stored.zero_point)
    return Operand(c.build.constant(stored.name, data.reshape(data.shape or (1,)), meaning), constant=True)


@handler("MaxPool", "AveragePool")
def pool(c: Converter, node: FileNode) -> None:
    """The pool keeps its input's quantization; a QuantizeLinear that changes it becomes a requantization."""
    value = c.value(node)
    x = c.image(node)
    quantization = c.build[x].quantization
    assert quantization is not None
    if len([name for name in node.outputs if name]) > 1:
        raise c.refuse(node, "gives indices as a second output")
    kernel = tuple(node.attrs["kernel_shape"])
    if len(kernel) != 2:
        raise c.refuse(node, f"has the kernel {list(kernel)}", "2-D pools are supported")
    strides, padding = _window(c, node, x, kernel)
    if node.type == "AveragePool" and node.attrs.get("count_include_pad", 0) and any(padding):
        if node.attrs.get("ceil_mode", 0):
            raise c.refuse(node, "counts padded cells and rounds its size up", "only one of the two is supported")
        rows, columns = padding[:2], padding[2:]
        height, width, channels = c.build[x].shape
        shape = (height + sum(rows), width + sum(columns), channels)
        padded = c.build.activation(f"{node.name}.padded", shape, quantization)
        x = c.build.node("pad", f"{node.name}.pad", (x,), padded, origin=node.name, padding=(rows, columns, (0, 0)))
        padding = (0, 0, 0, 0)
    y = c.activation(node.outputs[0], value.layout, quantization)
    height, width, _ = c.build[y].shape
    bottom = (height - 1) * strides[0] + kernel[0] - c.build[x].shape[0] - padding[0]
    right = (width - 1) * strides[1] + kernel[1] - c.build[x].shape[1] - padding[2]
    # ceil_mode: the last window may reach past the declared padding
    padding = (padding[0], max(padding[1], bottom), padding[2], max(padding[3], right))
    kind = {"MaxPool": "max_pool2d", "AveragePool": "average_pool2d"}[node.type]
    c.build.node(kind, node.name, (x,), y, kernel=kernel, strides=strides, padding=padding, clamp=FULL_RANGE)


@handler("GlobalAveragePool")
def global_average_pool(c: Converter, node: FileNode) -> None:
    x = c.image(node)
    y = c.write(c.tail(node), IMAGE)
    c.build.node("mean", node.name, (x,), y, axes=(0, 1), keepdims=True)


@handler("ReduceMean")
def reduce_mean(c: Converter, node: FileNode) -> None:
    value = c.value(node)
    rank = len(c.shape(node.input(0)))
    given = c.constant(node, 1)
    wanted = node.attrs.get("axes", ()) if given is None else given.reshape(-1).tolist()
    axes = sorted({c.ir_axis(node, value.layout, rank, int(axis)) for axis in wanted})
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        raise c.refuse(node, f"averages over the dimensions {list(wanted)}", "only neighbouring ones are supported")
    keepdims = node.attrs.get("keepdims", 1) == 1
    if value.layout == IMAGE and not keepdims and axes in ([0], [1]):
        raise c.refuse(node, "leaves channels and one side of an image", fix="average over height and width")
    tail = c.tail(node)
    y = c.write(tail, value.layout if keepdims else c.layout(tail.outputs[0]))
    c.build.node("mean", node.name, (value.name,), y, axes=tuple(axes), keepdims=keepdims)


@handler("Relu", "Clip")
def clip(c: Converter, node: FileNode) -> None:
    """Standing alone, after an int8 tensor: a requantization with a clamp."""
    value = c.value(node)
    low, high = c.clip_range(node)
    tail = c.tail(node)
    tail.low, tail.high = (min(max(bound, tail.low), tail.high) for bound in (low, high))
    c.write(tail, value.layout)
    y = c.values[tail.outputs[0]].name
    c.build.node("requantize", node.name, (value.name,), y, clamp=tail.clamp)
    for output in tail.outputs:
        c.alias(output, value, y)


@handler("Softmax")
def softmax(c: Converter, node: FileNode) -> None:
    """Scale 1/256, zero point -128, as TFLite; a QuantizeLinear that differs becomes a requantization."""
    value = c.value(node)
    shape = c.shape(node.input(0))
    axis = int(node.attrs.get("axis", -1 if c.file.opset >= 13 else 1))
    last = len(c.build[value.name].shape) - 1
    along = c.ir_axis(node, value.layout, len(shape), axis)
    if along != last or (c.file.opset < 13 and axis % len(shape) != len(shape) - 1) or value.chw:
        raise c.refuse(node, f"works along dimension {axis}", "only the channels, or the last dimension, are supported")
    y = c.activation(node.outputs[0], value.layout, SOFTMAX_OUTPUT)
    c.build.node("softmax", node.name, (value.name,), y)
