# SPDX-License-Identifier: Apache-2.0
"""TFLite operators that move or rename data: reshape, squeeze, transpose, pad, quantize, dequantize."""

from __future__ import annotations

import numpy as np

from tinytrain.frontends.builder import FULL_RANGE
from tinytrain.frontends.tflite.convert import Converter, handler
from tinytrain.frontends.tflite.reader import FileOperator


@handler("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape(c: Converter, op: FileOperator) -> None:
    """The result's shape is in the file: the shape or axes input is not needed."""
    x = c.value(op, 0).name
    result = c.result(op)
    shape, _ = c.ir_shape(result)
    if int(np.prod(shape, dtype=object)) != c.build[x].size:
        raise c.refuse(op, f"makes {list(result.shape)} of {c.build[x].size} elements", fix="export the model again")
    if _meaning_changes(c, op, x):
        raise c.refuse(op, "changes the scale or zero point of its input", fix="convert the model again")
    c.alias(op, c.build.reshaped(x, shape, result.name))


@handler("TRANSPOSE")
def transpose(c: Converter, op: FileOperator) -> None:
    value = c.value(op, 0)
    perm = [int(axis) for axis in c.constant(op, 1).reshape(-1)]
    if sorted(perm) != list(range(len(c.operand(op, 0).shape))):
        raise c.refuse(op, f"has the permutation {perm}", fix="export the model again")
    if value.batched:
        if perm[0] != 0:
            raise c.refuse(op, f"moves the batch dimension: permutation {perm}")
        perm = [axis - 1 for axis in perm[1:]] or [0]
    if _meaning_changes(c, op, value.name):
        raise c.refuse(op, "changes the scale or zero point of its input", fix="convert the model again")
    c.alias(op, c.build.transposed(value.name, perm, c.name(op)))


@handler("PAD", "PADV2")
def pad(c: Converter, op: FileOperator) -> None:
    value = c.value(op, 0)
    table = c.constant(op, 1)
    if table.shape != (len(c.operand(op, 0).shape), 2):
        raise c.refuse(op, f"has a table of paddings of the shape {list(table.shape)}", fix="export the model again")
    padding = table.tolist()
    if value.batched and padding[0] != [0, 0]:
        raise c.refuse(op, "pads the batch dimension")
    if min(min(pair) for pair in padding) < 0:
        raise c.refuse(op, f"has negative padding: {padding}")
    y = c.write(op)
    if c.build[y].quantization != c.build[value.name].quantization:
        raise c.refuse(op, "changes the scale or zero point of its input", fix="convert the model again")
    if op.code == "PADV2" and (fill := int(c.constant(op, 2, ("int8",)).reshape(-1)[0])) != c.build[y].zero_point:
        raise c.refuse(op, f"pads with {fill}", "only the zero point, the integer of 0.0, is supported")
    pairs = tuple((before, after) for before, after in padding[value.batched :])
    c.build.node("pad", c.name(op), (value.name,), y, padding=pairs)


@handler("QUANTIZE")
def quantize(c: Converter, op: FileOperator) -> None:
    """At the float input of the graph it vanishes; between int8 tensors (uint8 at the edges) it is a requantization."""
    result = c.result(op)
    if result.index in c.values:  # made with the graph's input
        return
    x = c.value(op, 0).name
    if result.dtype not in ("int8", "uint8"):
        raise c.refuse(op, f"writes {result.dtype}", "tinytrain trains int8 networks")
    meaning = c.meaning(op, result)
    if c.build[x].quantization == meaning:  # uint8 <-> int8
        c.alias(op, x)
        return
    c.build.node("requantize", c.name(op), (x,), c.activation(op, result, meaning), clamp=FULL_RANGE)


@handler("DEQUANTIZE")
def dequantize(c: Converter, op: FileOperator) -> None:
    """At the graph's output it vanishes: the graph gives the integers."""
    x = c.value(op, 0).name
    result = c.result(op)
    readers = [other for other in c.file.operators if result.index in other.inputs]
    if readers:
        raise c.refuse(
            readers[0], "works on floats", f"its input '{result.name}' is dequantized", "quantize all of the model"
        )
    c.alias(op, x)


def _meaning_changes(c: Converter, op: FileOperator, x: str) -> bool:
    """True where the file gives the moved data another meaning."""
    return c.meaning(op, c.result(op)) != c.build[x].quantization
