# SPDX-License-Identifier: Apache-2.0
"""TFLite operators that compute: convolutions, fully connected, add, mul, pools, mean, softmax, ReLUs."""

from __future__ import annotations

import numpy as np

from tinytrain.frontends.builder import padding_of
from tinytrain.frontends.tflite.convert import ACTIVATIONS, Converter, Value, handler
from tinytrain.frontends.tflite.reader import FileOperator
from tinytrain.graph import Quantization

_PADDINGS = ("SAME", "VALID")
SOFTMAX_OUTPUT = Quantization.per_tensor(1 / 256, -128)


@handler("CONV_2D")
def conv2d(c: Converter, op: FileOperator) -> None:
    x = c.image(op)
    weight = c.constant(op, 1, ("int8",))
    if weight.ndim != 4 or weight.shape[3] != c.build[x].shape[2]:
        why = f"weights {list(weight.shape)} on {c.build[x].shape[2]} input channels"
        raise c.refuse(op, "is a grouped convolution", why, "use groups of 1, or a depthwise convolution")
    meaning = c.weight_meaning(op, c.operand(op, 1), weight.shape[0])
    per_channel = Quantization(np.broadcast_to(meaning.scale, weight.shape[:1]).copy(), 0, 0)
    _convolution(c, op, "conv2d", x, c.build.constant(c.operand(op, 1).name, weight, per_channel), weight.shape[1:3])


@handler("DEPTHWISE_CONV_2D")
def depthwise_conv2d(c: Converter, op: FileOperator) -> None:
    x = c.image(op)
    weight = c.constant(op, 1, ("int8",))
    channels = c.build[x].shape[2]
    if weight.ndim != 4 or weight.shape[0] != 1 or weight.shape[3] % channels:
        why = f"weights {list(weight.shape)} on {channels} input channels"
        raise c.refuse(op, "does not fit its input", why, "export the model again")
    meaning = c.weight_meaning(op, c.operand(op, 1), weight.shape[3])
    per_channel = Quantization(np.broadcast_to(meaning.scale, weight.shape[3:]).copy(), 0, 2)
    name = c.build.constant(c.operand(op, 1).name, weight[0], per_channel)
    _convolution(c, op, "depthwise_conv2d", x, name, weight.shape[1:3])


def _convolution(c: Converter, op: FileOperator, kind: str, x: str, weight: str, kernel: tuple[int, ...]) -> None:
    dilation = (op.options["DilationHFactor"], op.options["DilationWFactor"])
    if dilation != (1, 1):
        raise c.refuse(op, f"has the dilation {dilation[0]} x {dilation[1]}", "only 1 x 1 is supported")
    strides, padding = _window(c, op, x, kernel)
    bias, bias_name = _bias(c, op)
    y = c.write(op)
    c.build.layer(
        kind, c.name(op), x, weight, bias, bias_name, y,
        strides=strides, padding=padding, clamp=c.clamp(op, c.meaning(op, c.result(op))), rounding="double",
    )  # fmt: skip


@handler("FULLY_CONNECTED")
def fully_connected(c: Converter, op: FileOperator) -> None:
    x = c.value(op, 0).name
    weight = c.constant(op, 1, ("int8",))
    if op.options["WeightsFormat"] != 0:
        raise c.refuse(op, "stores its weights shuffled", fix="convert the model without shuffled weights")
    if weight.ndim != 2 or weight.shape[1] != c.build[x].size:
        why = f"weights {list(weight.shape)} on an input of {c.build[x].size} elements"
        raise c.refuse(op, "works on more than one vector", why, "flatten its input to one vector")
    meaning = c.weight_meaning(op, c.operand(op, 1), weight.shape[0])
    name = c.build.constant(c.operand(op, 1).name, weight, meaning)
    bias, bias_name = _bias(c, op)
    result = c.result(op)
    shape, batched = c.ir_shape(result)
    meaning = c.meaning(op, result)
    y = c.build.fully_connected(c.name(op), x, name, bias, bias_name, result.name, shape, meaning, c.clamp(op, meaning))
    c.values[result.index] = Value(y, batched)


def _window(c: Converter, op: FileOperator, x: str, kernel: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """(strides, padding)"""
    strides = (op.options["StrideH"], op.options["StrideW"])
    if min(*strides, *kernel) < 1:
        raise c.refuse(op, f"has strides {list(strides)} and a kernel {list(kernel)}", fix="export the model again")
    code = op.options["Padding"]
    if code not in (0, 1):
        raise c.refuse(op, f"has the unknown padding {code}", fix="export the model again")
    return strides, padding_of(_PADDINGS[code], c.build[x].shape[:2], kernel, strides)


def _bias(c: Converter, op: FileOperator) -> tuple[np.ndarray | None, str]:
    """The bias, and the name of its tensor. Its own quantization is not read: it counts in x scale * w scale."""
    tensor = c.optional(op, 2)
    if tensor is None:
        return None, f"{c.name(op)}.bias"
    return c.constant(op, 2, ("int32",)).reshape(-1), tensor.name


@handler("ADD", "MUL")
def elementwise(c: Converter, op: FileOperator) -> None:
    a, b = c.operands(op)
    y = c.write(op)
    c.build.binary(op.code.lower(), c.name(op), a, b, y, c.clamp(op, c.meaning(op, c.result(op))))


@handler("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(c: Converter, op: FileOperator) -> None:
    x = c.image(op)
    kernel = (op.options["FilterHeight"], op.options["FilterWidth"])
    strides, padding = _window(c, op, x, kernel)
    y = c.write(op)
    _same_meaning(c, op, x, y)
    c.build.node(
        {"AVERAGE_POOL_2D": "average_pool2d", "MAX_POOL_2D": "max_pool2d"}[op.code], c.name(op), (x,), y,
        kernel=kernel, strides=strides, padding=padding, clamp=c.clamp(op, c.meaning(op, c.result(op))),
    )  # fmt: skip


def _same_meaning(c: Converter, op: FileOperator, x: str, y: str) -> None:
    if c.build[x].quantization != c.build[y].quantization:
        why = f"{c.build[x].quantization} becomes {c.build[y].quantization}"
        raise c.refuse(op, "changes the scale or zero point of its input", why, "convert the model again")


@handler("MEAN")
def mean(c: Converter, op: FileOperator) -> None:
    value = c.value(op, 0)
    rank = len(c.operand(op, 0).shape)
    axes = sorted({int(axis) + (rank if axis < 0 else 0) for axis in c.constant(op, 1).reshape(-1)})
    axes = [axis - value.batched for axis in axes]
    if not axes or axes[0] < 0 or axes[-1] >= rank - value.batched or axes != list(range(axes[0], axes[-1] + 1)):
        raise c.refuse(op, f"averages over the axes {axes}", "only neighbouring axes without the batch are supported")
    y = c.write(op)
    keepdims = bool(op.options["KeepDims"])
    c.build.node("mean", c.name(op), (value.name,), y, axes=tuple(axes), keepdims=keepdims)


@handler("RELU", "RELU6", "RELU_N1_TO_1")
def relu(c: Converter, op: FileOperator) -> None:
    x = c.value(op, 0).name
    y = c.write(op)
    c.build.node(
        "requantize",
        c.name(op),
        (x,),
        y,
        clamp=c.integer_range(c.meaning(op, c.result(op)), *ACTIVATIONS[op.code]),
        ratio="float32",
    )


@handler("SOFTMAX")
def softmax(c: Converter, op: FileOperator) -> None:
    x = c.value(op, 0).name
    y = c.write(op)
    if op.options["Beta"] != 1.0:
        raise c.refuse(op, f"has beta {op.options['Beta']:g}", "only 1 is supported")
    if c.build[y].quantization != SOFTMAX_OUTPUT:
        raise c.refuse(op, "does not write scale 1/256 and zero point -128", fix="convert the model again")
    c.build.node("softmax", c.name(op), (x,), y)
