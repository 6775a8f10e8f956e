# SPDX-License-Identifier: Apache-2.0
"""The bytes of a .tflite file as plain values. Everything a damaged file can do wrong ends here, as a ModelError."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tflite as schema

from tinytrain.errors import ModelError

# what reading a damaged flatbuffer through the generated classes may raise
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)

DTYPES = {
    schema.TensorType.FLOAT32: "float32", schema.TensorType.FLOAT16: "float16", schema.TensorType.INT32: "int32",
    schema.TensorType.UINT8: "uint8", schema.TensorType.INT64: "int64", schema.TensorType.STRING: "string",
    schema.TensorType.BOOL: "bool", schema.TensorType.INT16: "int16", schema.TensorType.INT8: "int8",
    schema.TensorType.FLOAT64: "float64", schema.TensorType.UINT32: "uint32", schema.TensorType.INT4: "int4",
}  # fmt: skip
_READABLE = {"float32", "float16", "int32", "uint8", "int64", "bool", "int16", "int8", "float64", "uint32"}

_OPERATOR_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}

# operator -> (generated class of its options, the fields that are read)
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
_OPTIONS: dict[str, tuple[type, tuple[str, ...]]] = {
    "CONV_2D": (schema.Conv2DOptions, _CONV),
    "DEPTHWISE_CONV_2D": (schema.DepthwiseConv2DOptions, _CONV),
    "FULLY_CONNECTED": (schema.FullyConnectedOptions, ("FusedActivationFunction", "WeightsFormat")),
    "ADD": (schema.AddOptions, ("FusedActivationFunction",)),
    "MUL": (schema.MulOptions, ("FusedActivationFunction",)),
    "AVERAGE_POOL_2D": (schema.Pool2DOptions, _POOL),
    "MAX_POOL_2D": (schema.Pool2DOptions, _POOL),
    "MEAN": (schema.ReducerOptions, ("KeepDims",)),
    "SOFTMAX": (schema.SoftmaxOptions, ("Beta",)),
}


@dataclass(frozen=True)
class FileQuantization:
    scale: np.ndarray  # float64
    zero_point: np.ndarray  # int64
    axis: int


@dataclass(frozen=True)
class FileTensor:
    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]  # -1 where a dimension is dynamic
    dtype: str
    quantization: FileQuantization | None
    data: np.ndarray | None = field(repr=False)
    sparse: bool


@dataclass(frozen=True)
class FileOperator:
    index: int
    code: str
    inputs: tuple[int, ...]  # -1: left out
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class FileModel:
    path: Path
    tensors: list[FileTensor]
    operators: list[FileOperator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read(content: bytes, path: Path) -> FileModel:
    """The first subgraph of a .tflite file; ModelError where the file is damaged."""
    try:
        return _Reader(content).model(path)
    except _DAMAGE as error:
        raise ModelError(
            f"'{path.name}' is not a whole TFLite file",
            where=str(path),
            why=f"{str(error) or type(error).__name__} ({len(content):,} bytes)",
            fix="it may be cut short or damaged: export or download it again",
        ) from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def model(self, path: Path) -> FileModel:
        model = schema.Model.GetRootAs(self.content, 0)
        if not self._count(model.SubgraphsLength()):
            raise ValueError("it holds no graph")
        graph = model.Subgraphs(0)
        codes = [self._code(model.OperatorCodes(i)) for i in range(self._count(model.OperatorCodesLength()))]
        tensors = [self._tensor(i, graph.Tensors(i), model) for i in range(self._count(graph.TensorsLength()))]
        operators = [self._operator(i, graph.Operators(i), codes) for i in range(self._count(graph.OperatorsLength()))]
        inputs = self._numbers(graph.InputsLength(), graph.Inputs)
        outputs = self._numbers(graph.OutputsLength(), graph.Outputs)
        for index in (*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs))):
            if not -1 <= index < len(tensors):
                raise ValueError(f"tensor {index} does not exist")
        return FileModel(path, tensors, operators, inputs, outputs)

    def _count(self, length: int) -> int:
        """A vector's length, refused where the file could not hold it."""
        if not 0 <= length * 4 <= len(self.content):
            raise ValueError("a list runs past the end of the file")
        return length

    def _numbers(self, length: int, get: Callable[[int], int]) -> tuple[int, ...]:
        return tuple(int(get(i)) for i in range(self._count(length)))

    def _code(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == schema.BuiltinOperator.CUSTOM:
            return f"CUSTOM {_text(code.CustomCode())}".strip()
        return _OPERATOR_NAMES.get(number, f"operator {number}")

    def _operator(self, index: int, op: Any, codes: list[str]) -> FileOperator:
        code = codes[op.OpcodeIndex()]
        inputs = self._numbers(op.InputsLength(), op.Inputs)
        outputs = self._numbers(op.OutputsLength(), op.Outputs)
        return FileOperator(index, code, inputs, outputs, self._options(index, code, op.BuiltinOptions()))

    def _options(self, index: int, code: str, table: Any) -> dict[str, Any]:
        if code not in _OPTIONS:
            return {}
        if table is None:
            raise ValueError(f"operator {index} ({code}) has no options")
        kind, fields = _OPTIONS[code]
        reader = kind()
        reader.Init(table.Bytes, table.Pos)
        return {name: getattr(reader, name)() for name in fields}

    def _tensor(self, index: int, tensor: Any, model: Any) -> FileTensor:
        shape = self._numbers(tensor.ShapeLength(), tensor.Shape)
        signature = self._numbers(tensor.ShapeSignatureLength(), tensor.ShapeSignature)
        dtype = DTYPES.get(tensor.Type(), f"type {tensor.Type()}")
        return FileTensor(
            index,
            _text(tensor.Name()) or f"tensor{index}",
            shape,
            signature or shape,
            dtype,
            self._quantization(tensor.Quantization()),
            self._data(tensor.Buffer(), dtype, shape, model),
            tensor.Sparsity() is not None,
        )

    def _quantization(self, quantization: Any) -> FileQuantization | None:
        if quantization is None or not self._count(quantization.ScaleLength()):
            return None
        count = quantization.ScaleLength()
        scale = np.array([quantization.Scale(i) for i in range(count)], np.float32).astype(np.float64)
        zeros = self._numbers(quantization.ZeroPointLength(), quantization.ZeroPoint) or (0,)
        return FileQuantization(scale, np.array(zeros, np.int64), int(quantization.QuantizedDimension()))

    def _data(self, buffer: int, dtype: str, shape: tuple[int, ...], model: Any) -> np.ndarray | None:
        """The constant value of a tensor, None for an activation."""
        if buffer == 0:
            return None
        if not 0 <= buffer < self._count(model.BuffersLength()):
            raise ValueError(f"buffer {buffer} does not exist")
        stored = model.Buffers(buffer)
        if not stored.DataLength() or dtype not in _READABLE:
            return None
        return np.frombuffer(stored.DataAsNumpy().tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="replace")
