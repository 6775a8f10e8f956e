# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that move or rename data: QuantizeLinear, DequantizeLinear, Reshape and its kin, Transpose, Pad."""

from __future__ import annotations

import numpy as np

from tinytrain.frontends.onnx.convert import BATCH, HWC_ORDER, IMAGE, WHOLE, Constant, Converter, Value, handler
from tinytrain.frontends.onnx.reader import FileNode


@handler("QuantizeLinear")
def quantize_linear(c: Converter, node: FileNode) -> None:
    """At the graph's input it gives the input its meaning; after an int8 tensor it vanishes or requantizes."""
    name, output = node.input(0), node.outputs[0]
    if name in c.constants:
        _fold_constant(c, node)
        return
    meaning = c.meaning(node)
    if c.enter(node, meaning):
        return
    value = c.value(node)
    c.alias(output, value, c.build.requantized(value.name, meaning, node.name, output))


def _fold_constant(c: Converter, node: FileNode) -> None:
    """Float weights that the file quantizes itself."""
    data, zero_point = c.constants[node.input(0)], c.constants.get(node.input(2))
    scale, zero, axis = c.quantization(node, data.ndim)
    if not np.issubdtype(data.dtype, np.floating) or (axis is not None and data.shape[axis : axis + 1] != scale.shape):
        raise c.refuse(node, "quantizes a constant that does not fit its scale", fix="quantize the model again")
    if axis is not None:
        scale = scale.reshape([-1 if axis == other else 1 for other in range(data.ndim)])
    unsigned = zero_point is None or zero_point.dtype == np.uint8
    low, high = (0, 255) if unsigned else (-128, 127)
    steps = np.rint(data / scale.astype(np.float32)) + zero + (128 if unsigned else 0)
    c.constants[node.outputs[0]] = np.clip(np.nan_to_num(steps), low, high).astype(np.uint8 if unsigned else np.int8)


@handler("DequantizeLinear")
def dequantize_linear(c: Converter, node: FileNode) -> None:
    name, output = node.input(0), node.outputs[0]
    if name in c.constants:
        c.dequantized[output] = _dequantized(c, node)
        return
    meaning = c.meaning(node)
    if c.enter(node, meaning):
        return
    value = c.value(node)
    if c.build[value.name].quantization != meaning:
        raise c.refuse(
            node, "reads integers in another scale than they were written in", fix="quantize the model again"
        )
    c.alias(output, value)


def _dequantized(c: Converter, node: FileNode) -> Constant:
    """A quantized constant; uint8 becomes int8, 128 lower."""
    data = c.constants[node.input(0)]
    scale, zero_point, axis = c.quantization(node, data.ndim)
    if axis is not None and data.shape[axis : axis + 1] != scale.shape:
        raise c.refuse(node, f"has {scale.size} scales for {list(data.shape)}", fix="quantize the model again")
    if data.dtype == np.uint8:
        data = (data.astype(np.int16) - 128).astype(np.int8)
    return Constant(node.input(0), data, scale, zero_point, axis)


@handler("Identity", "Dropout")
def identity(c: Converter, node: FileNode) -> None:
    name = node.input(0)
    if name in c.constants:
        c.constants[node.outputs[0]] = c.constants[name]
    elif name in c.dequantized:
        c.dequantized[node.outputs[0]] = c.dequantized[name]
    else:
        c.alias(node.outputs[0], c.value(node))


@handler("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(c: Converter, node: FileNode) -> None:
    """A view, except where the file's order C, H, W matters and the graph's order is H, W, C.

    Before fully connected layers the order stays and their weights' columns are permuted; elsewhere the data is moved.
    """
    value, output = c.value(node), node.outputs[0]
    layout = c.layout(output)
    shape = c.ir_shape(output, layout)
    if c.shape(node.input(0)) == c.shape(output):
        c.alias(output, value)
        return
    x, chw = value.name, value.chw
    if value.layout == IMAGE and _order_matters(c.build[x].shape):
        height, width, channels = c.build[x].shape
        if _only_fully_connected(c, output):
            chw = (channels, height, width)
        else:
            x = c.build.transposed(x, (2, 0, 1), f"{node.name}.chw", node.name)
    if layout == IMAGE and _order_matters(shape):
        x = c.build.reshaped(x, (shape[2], *shape[:2]), f"{node.name}.view", node.name)
        x = c.build.transposed(x, (1, 2, 0), output, node.name)
    else:
        x = c.build.reshaped(x, shape, output, node.name)
    c.values[output] = Value(x, layout, chw)


def _order_matters(shape: tuple[int, ...]) -> bool:
    """Whether [H, W, C] and [C, H, W] differ in memory."""
    height, width, channels = shape
    return height * width > 1 and channels > 1


def _only_fully_connected(c: Converter, name: str) -> bool:
    """Whether a tensor is a vector that only fully connected layers read."""
    readers = list(c.readers(name))
    size = int(np.prod(c.shape(name)))
    vector = c.shape(name)[-1] == size
    return (
        bool(readers) and vector and not c.is_output(name) and all(node.type in ("Gemm", "MatMul") for node in readers)
    )


@handler("Transpose")
def transpose(c: Converter, node: FileNode) -> None:
    name, output = node.input(0), node.outputs[0]
    rank = len(c.shape(name))
    perm = [int(axis) for axis in node.attrs.get("perm", range(rank - 1, -1, -1))]
    if name in c.dequantized:
        stored = c.dequantized[name]
        axis = None if stored.axis is None else perm.index(stored.axis)
        data = stored.data.transpose(perm)
        c.dequantized[output] = Constant(stored.name, data, stored.scale, stored.zero_point, axis)
        return
    value = c.value(node)
    if value.chw:
        raise c.refuse(node, "reorders a flattened image")
    if value.layout != WHOLE and perm[0] != 0:
        raise c.refuse(node, f"moves the batch dimension: permutation {perm}")
    to_hwc = value.layout == IMAGE and perm == [0, 2, 3, 1]
    layout = BATCH if to_hwc else c.layout(output)
    order = {IMAGE: HWC_ORDER, BATCH: tuple(range(1, rank)), WHOLE: tuple(range(rank))}[layout]
    ir_perm = [c.ir_axis(node, value.layout, rank, perm[axis]) for axis in order] or [0]
    c.alias(output, value, c.build.transposed(value.name, ir_perm, output, node.name), layout)


@handler("Pad")
def pad(c: Converter, node: FileNode) -> None:
    value = c.value(node)
    quantization = c.build[value.name].quantization
    assert quantization is not None
    rank = len(c.shape(node.input(0)))
    given, fill, chosen = c.constant(node, 1), c.constant(node, 2), c.constant(node, 3)
    pads = np.asarray(node.attrs.get("pads", ()) if given is None else given).reshape(-1).astype(int).tolist()
    axes = list(range(rank)) if chosen is None else [int(axis) % rank for axis in chosen.reshape(-1)]
    mode = node.attrs.get("mode", "constant")
    amount = float(node.attrs.get("value", 0.0)) if fill is None or not fill.size else float(fill.reshape(-1)[0])
    if mode != "constant" or amount != 0.0:
        what = f"pads in the mode '{mode}'" if mode != "constant" else f"pads with {amount:g}"
        raise c.refuse(node, what, "only constant zeros are supported")
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0 or value.chw:
        raise c.refuse(node, f"has the pads {pads}", "zero or more per side are supported")
    pairs = [(0, 0)] * len(c.build[value.name].shape)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if before or after:
            pairs[c.ir_axis(node, value.layout, rank, axis)] = (before, after)
    y = c.activation(node.outputs[0], value.layout, quantization)
    c.build.node("pad", node.name, (value.name,), y, padding=tuple(pairs))
