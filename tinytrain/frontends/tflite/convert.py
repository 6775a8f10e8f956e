# SPDX-License-Identifier: Apache-2.0
"""Walk a TFLite file's operators in order and let each operator's handler add nodes to the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontends.builder import (
    INT8_MAX,
    INT8_MIN,
    REMEDY,
    GraphBuilder,
    Operand,
    dynamic_shape,
    float_model,
)
from tinytrain.frontends.tflite.reader import FileModel, FileOperator, FileTensor
from tinytrain.graph import Graph, Quantization
from tinytrain.ops.arithmetic import round_half_away

Handler = Callable[["Converter", FileOperator], None]
_handlers: dict[str, Handler] = {}

# fused activation -> its real range; None: no limit
ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None), "RELU": (0.0, None), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0),
}  # fmt: skip
_ACTIVATION_CODES = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")


def handler(*codes: str) -> Callable[[Handler], Handler]:
    """Decorator: the function that converts these TFLite operators."""

    def register(function: Handler) -> Handler:
        for code in codes:
            _handlers[code] = function
        return function

    return register


@dataclass(frozen=True)
class Value:
    """The graph tensor that stands for a tensor of the file; batched: the file's first dimension, 1, was dropped."""

    name: str
    batched: bool


class Converter:
    """What handlers work with: the file's tensors, the graph being built, refusals that name the operator."""

    def __init__(self, file: FileModel) -> None:
        self.file = file
        self.build = GraphBuilder(file.path, "tflite")
        self.values: dict[int, Value] = {}

    def convert(self) -> Graph:
        self._refuse_floats()
        self._refuse_unsupported()
        inputs = [self._graph_input(index) for index in self.file.inputs]
        for op in self.file.operators:
            _handlers[op.code](self, op)
        outputs = [self._graph_output(index) for index in self.file.outputs]
        return self.build.finish([name for name in inputs if name], outputs)

    # --- refusals ---------------------------------------------------------------------------------------------------

    def refuse(self, op: FileOperator, what: str, why: str = "", fix: str = REMEDY) -> ModelError:
        """`what` continues the sentence "CONV_2D 'name' ..."."""
        place = f"{self.file.path}, node {op.index} ({op.code})" if op.index >= 0 else str(self.file.path)
        return ModelError(f"{op.code} '{self.name(op)}' {what}", where=place, why=why, fix=fix)

    def _refuse_floats(self) -> None:
        dtypes = {self.file.tensors[i].dtype for op in self.file.operators for i in op.outputs if i >= 0}
        if dtypes and not dtypes & {"int8", "uint8", "int16"} and dtypes & {"float32", "float16"}:
            raise float_model(self.file.path)

    def _refuse_unsupported(self) -> None:
        unsupported = [op for op in self.file.operators if op.code not in _handlers]
        if not unsupported:
            return
        first = unsupported[0]
        why = "tinytrain has no such operator"
        if len(unsupported) > 1:
            counts = Counter(op.code for op in unsupported)
            listed = ", ".join(f"{code} ({count})" for code, count in counts.items())
            why = f"{len(unsupported)} operators of this file are not supported: {listed}"
        raise self.refuse(first, "is not supported", why)

    # --- tensors ----------------------------------------------------------------------------------------------------

    def name(self, op: FileOperator) -> str:
        """TFLite operators have no names: they go by that of their output."""
        written = [index for index in op.outputs if index >= 0]
        return self.file.tensors[written[0]].name if written else f"operator {op.index}"

    def operand(self, op: FileOperator, position: int) -> FileTensor:
        """An input that the operator must have."""
        tensor = self.optional(op, position)
        if tensor is None:
            raise self.refuse(op, f"has no input {position}", fix="export the model again")
        return tensor

    def optional(self, op: FileOperator, position: int) -> FileTensor | None:
        index = op.inputs[position] if position < len(op.inputs) else -1
        return self.file.tensors[index] if index >= 0 else None

    def result(self, op: FileOperator) -> FileTensor:
        if len(op.outputs) != 1 or op.outputs[0] < 0:
            raise self.refuse(op, f"has {len(op.outputs)} outputs instead of one", fix="export the model again")
        return self.file.tensors[op.outputs[0]]

    def value(self, op: FileOperator, position: int) -> Value:
        """The activation that an operator reads."""
        tensor = self.operand(op, position)
        if tensor.index in self.values:
            return self.values[tensor.index]
        if tensor.data is not None:
            raise self.refuse(op, f"reads the constant '{tensor.name}' where an activation is expected")
        if tensor.dtype != "int8":
            raise self.refuse(
                op, f"works on {tensor.dtype}", f"'{tensor.name}' is not int8; tinytrain trains int8 networks"
            )
        raise self.refuse(op, f"reads '{tensor.name}' before anything writes it", fix="export the model again")

    def image(self, op: FileOperator, position: int = 0) -> str:
        """The [H, W, C] activation that an operator reads."""
        value = self.value(op, position)
        if not value.batched or len(self.build[value.name].shape) != 3:
            shape = list(self.operand(op, position).shape)
            what = f"reads a tensor of the shape {shape}, not an image [1, H, W, C]"
            raise self.refuse(op, what, fix="export the model with images of a batch of 1")
        return value.name

    def constant(self, op: FileOperator, position: int, dtypes: tuple[str, ...] = ("int32", "int64")) -> np.ndarray:
        """The value of a constant input, by default of integers such as a shape or axes."""
        tensor = self.operand(op, position)
        if tensor.data is None:
            why = "its value is computed while the model runs"
            raise self.refuse(op, f"has an input '{tensor.name}' that is not a constant", why)
        if tensor.dtype not in dtypes or tensor.sparse:
            kind = "sparse" if tensor.sparse else tensor.dtype
            raise self.refuse(op, f"has a constant '{tensor.name}' of type {kind}; {' or '.join(dtypes)} is supported")
        return tensor.data

    def meaning(self, op: FileOperator, tensor: FileTensor) -> Quantization:
        """The per-tensor quantization of an int8 tensor; a uint8 one is seen as int8, 128 lower."""
        quantization = tensor.quantization
        if tensor.dtype not in ("int8", "uint8") or quantization is None:
            what = tensor.dtype if quantization or tensor.dtype not in ("int8", "uint8") else "without a scale"
            raise self.refuse(op, f"has a tensor '{tensor.name}' that is {what}; int8 with a scale is supported")
        offset = 128 if tensor.dtype == "uint8" else 0
        if quantization.scale.size != 1 or quantization.zero_point.size != 1:
            raise self.refuse(op, f"has an activation '{tensor.name}' that is quantized per channel")
        self._check_scales(op, tensor)
        zero_point = int(quantization.zero_point[0]) - offset
        if not INT8_MIN <= zero_point <= INT8_MAX:
            raise self.refuse(op, f"has a tensor '{tensor.name}' with the zero point {zero_point + offset}")
        return Quantization(quantization.scale, zero_point)

    def weight_meaning(self, op: FileOperator, tensor: FileTensor, channels: int) -> Quantization:
        """Quantization of an int8 weight: symmetric, with one scale or one per output channel (said to be axis 0)."""
        quantization = tensor.quantization
        if quantization is None:
            raise self.refuse(op, f"has a weight '{tensor.name}' without a scale")
        if quantization.zero_point.any():
            why = "weights must be symmetric: real = scale * integer"
            raise self.refuse(op, f"has a weight '{tensor.name}' with a zero point", why, "quantize it per channel")
        if quantization.scale.size not in (1, channels):
            raise self.refuse(op, f"has {quantization.scale.size} weight scales for {channels} output channels")
        self._check_scales(op, tensor)
        return Quantization(quantization.scale, 0, None if quantization.scale.size == 1 else 0)

    def _check_scales(self, op: FileOperator, tensor: FileTensor) -> None:
        assert tensor.quantization is not None
        scale = tensor.quantization.scale
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise self.refuse(op, f"has a scale of '{tensor.name}' that is not above 0", fix="quantize the model again")

    def write(self, op: FileOperator, meaning: Quantization | None = None) -> str:
        """The int8 activation an operator writes, new in the graph."""
        tensor = self.result(op)
        if tensor.dtype != "int8":
            why = f"'{tensor.name}' is {tensor.dtype}; tinytrain trains int8 networks"
            raise self.refuse(op, f"writes {tensor.dtype}", why)
        return self.activation(op, tensor, meaning or self.meaning(op, tensor))

    def activation(self, op: FileOperator, tensor: FileTensor, meaning: Quantization) -> str:
        shape, batched = self.ir_shape(tensor)
        name = self.build.activation(tensor.name, shape, meaning)
        self.values[tensor.index] = Value(name, batched)
        return name

    def alias(self, op: FileOperator, name: str) -> None:
        """The operator's output is the graph tensor `name`."""
        tensor = self.result(op)
        self.values[tensor.index] = Value(name, self.ir_shape(tensor)[1])

    def ir_shape(self, tensor: FileTensor) -> tuple[tuple[int, ...], bool]:
        """Shape without the batch dimension, and whether there was one."""
        shape = tensor.shape
        if any(extent <= 0 for extent in shape[1:]) or (shape and shape[0] <= 0 and shape[0] != -1):
            raise dynamic_shape(self.file.path, tensor.name, shape)
        batched = bool(shape) and shape[0] in (1, -1)
        return (shape[1:] if batched else shape) or (1,), batched

    def clamp(self, op: FileOperator, meaning: Quantization) -> tuple[int, int]:
        """The integers of the fused activation's range."""
        code = op.options["FusedActivationFunction"]
        activation = _ACTIVATION_CODES[code] if 0 <= code < len(_ACTIVATION_CODES) else str(code)
        if activation not in ACTIVATIONS:
            raise self.refuse(op, f"has the fused activation {activation}", f"supported: {', '.join(ACTIVATIONS)}")
        return self.integer_range(meaning, *ACTIVATIONS[activation])

    def integer_range(self, meaning: Quantization, low: float | None, high: float | None) -> tuple[int, int]:
        """A real range in a tensor's integers; the quotient is formed in float32, as TFLite does."""
        with np.errstate(over="ignore"):
            bounds = [
                limit if real is None else meaning.zero_point + _round(np.float32(real) / np.float32(meaning.scale[0]))
                for real, limit in ((low, INT8_MIN), (high, INT8_MAX))
            ]
        return max(INT8_MIN, bounds[0]), min(INT8_MAX, bounds[1])

    def operands(self, op: FileOperator) -> tuple[Operand, Operand]:
        """Both inputs of an elementwise operator; constants become int8 constants without leading ones."""
        a, b = (self._element_operand(op, position) for position in (0, 1))
        if a.constant and b.constant:
            raise self.refuse(op, "has two constant inputs", fix="let the converter fold constants")
        return a, b

    def _element_operand(self, op: FileOperator, position: int) -> Operand:
        tensor = self.operand(op, position)
        if tensor.index in self.values or tensor.data is None:
            return Operand(self.value(op, position).name)
        data = self.constant(op, position, ("int8",))
        while data.ndim > 1 and data.shape[0] == 1:
            data = data[0]
        name = self.build.constant(tensor.name, data.reshape(data.shape or (1,)), self.meaning(op, tensor))
        return Operand(name, constant=True)

    # --- the ends of the graph --------------------------------------------------------------------------------------

    def _graph_input(self, index: int) -> str | None:
        """The graph's input; a float one is created by the QUANTIZE that reads it (see shapes.quantize)."""
        if index < 0:
            raise ModelError("an input of the model is missing", where=str(self.file.path))
        tensor = self.file.tensors[index]
        if any(extent < 0 for extent in tensor.signature[1:]) or any(extent <= 0 for extent in tensor.shape[1:]):
            raise dynamic_shape(self.file.path, tensor.name, tensor.signature)
        source = FileOperator(-1, "input", (), (index,), {})
        if tensor.dtype != "float32":
            return self.activation(source, tensor, self.meaning(source, tensor))
        readers = [op for op in self.file.operators if index in op.inputs]
        if len(readers) != 1 or readers[0].code != "QUANTIZE":
            reader = readers[0] if readers else source
            why = f"the input '{tensor.name}' is float32 and no single QUANTIZE follows it"
            raise self.refuse(reader, "works on float32", why, "export with an int8 input")
        result = self.result(readers[0])
        return self.activation(readers[0], result, self.meaning(readers[0], result))

    def _graph_output(self, index: int) -> str:
        if index not in self.values:
            name = self.file.tensors[index].name if index >= 0 else "?"
            raise ModelError(
                f"nothing writes the output '{name}'", where=str(self.file.path), fix="export the model again"
            )
        return self.values[index].name


def _round(value: np.float32) -> int:
    """To the nearest integer, half away from zero; far outside of int8, any large number will do."""
    return round_half_away(max(-1e6, min(1e6, float(value))))
