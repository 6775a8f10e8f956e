# SPDX-License-Identifier: Apache-2.0
"""Writes small .tflite files for tests, with the schema's own builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import tflite as schema

_OPTIONS = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "SOFTMAX": "SoftmaxOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions", "MUL": "MulOptions", "MEAN": "ReducerOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions",
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CONV_2D": {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1},
    "DEPTHWISE_CONV_2D": {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "DepthMultiplier": 1},
    "SOFTMAX": {"Beta": 1.0},
}
_VERSIONS = {"RESHAPE": 1, "SQUEEZE": 1, "EXPAND_DIMS": 1, "RELU_N1_TO_1": 1}
SAME, VALID = 0, 1
RELU, RELU6, TANH = 1, 3, 4


class TfliteFile:
    """Tensors and operators are added in order; `content` gives the bytes."""

    def __init__(self) -> None:
        self.tensors: list[dict[str, Any]] = []
        self.operators: list[tuple[str, Sequence[int], Sequence[int], dict[str, Any]]] = []

    def tensor(
        self,
        shape: Sequence[int],
        scale: float | Sequence[float] | None = None,
        zero: int = 0,
        *,
        data: np.ndarray | None = None,
        dtype: str = "int8",
        axis: int = 0,
        name: str = "",
        signature: Sequence[int] = (),
    ) -> int:
        number = len(self.tensors)
        scales = [] if scale is None else np.atleast_1d(scale).tolist()
        self.tensors.append(
            {
                "shape": list(shape), "scale": scales, "zero": [zero] * len(scales), "data": data, "dtype": dtype,
                "axis": axis, "name": name or f"t{number}", "signature": list(signature),
            }
        )  # fmt: skip
        return number

    def constant(
        self, data: np.ndarray, scale: float | Sequence[float] | None = None, zero: int = 0, axis: int = 0
    ) -> int:
        return self.tensor(data.shape, scale, zero, data=data, dtype=str(data.dtype), axis=axis)

    def op(self, code: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        self.operators.append((code, inputs, outputs, {**_DEFAULTS.get(code, {}), **options}))

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        b = flatbuffers.Builder(1024)
        codes = list(dict.fromkeys(code for code, *_ in self.operators))
        tensors = [self._tensor(b, index, fields) for index, fields in enumerate(self.tensors)]
        operators = [self._operator(b, codes, *fields) for fields in self.operators]
        graph = _table(
            b, "SubGraph", Tensors=_offsets(b, tensors), Inputs=_ints(b, inputs), Outputs=_ints(b, outputs),
            Operators=_offsets(b, operators), Name=b.CreateString("main"),
        )  # fmt: skip
        code_tables = []
        for code in codes:
            number = getattr(schema.BuiltinOperator, code)
            code_tables.append(
                _table(
                    b,
                    "OperatorCode",
                    DeprecatedBuiltinCode=min(number, 127),
                    BuiltinCode=number,
                    Version=_VERSIONS.get(code, 2),
                )
            )
        blobs = [None, *(fields["data"] for fields in self.tensors)]
        buffers = []
        for blob in blobs:
            vector = None if blob is None else b.CreateByteVector(blob.tobytes())
            buffers.append(_table(b, "Buffer", **({} if vector is None else {"Data": vector})))
        model = _table(
            b, "Model", Version=3, OperatorCodes=_offsets(b, code_tables), Subgraphs=_offsets(b, [graph]),
            Buffers=_offsets(b, buffers),
        )  # fmt: skip
        b.Finish(model, b"TFL3")
        return bytes(b.Output())

    def _tensor(self, b: flatbuffers.Builder, index: int, fields: dict[str, Any]) -> int:
        parts = {"Shape": _ints(b, fields["shape"]), "Name": b.CreateString(fields["name"])}
        if fields["signature"]:
            parts["ShapeSignature"] = _ints(b, fields["signature"])
        if fields["scale"]:
            scale = b.CreateNumpyVector(np.array(fields["scale"], np.float32))
            zero = b.CreateNumpyVector(np.array(fields["zero"], np.int64))
            parts["Quantization"] = _table(
                b, "QuantizationParameters", Scale=scale, ZeroPoint=zero, QuantizedDimension=fields["axis"]
            )
        number = getattr(schema.TensorType, fields["dtype"].upper())
        return _table(b, "Tensor", Type=number, Buffer=0 if fields["data"] is None else index + 1, **parts)

    def _operator(
        self, b: flatbuffers.Builder, codes: list[str], code: str, inputs: Any, outputs: Any, options: Any
    ) -> int:
        parts: dict[str, Any] = {"Inputs": _ints(b, inputs), "Outputs": _ints(b, outputs)}
        if code in _OPTIONS:
            parts["BuiltinOptions"] = _table(b, _OPTIONS[code], **options)
            parts["BuiltinOptionsType"] = getattr(schema.BuiltinOptions, _OPTIONS[code])
        return _table(b, "Operator", OpcodeIndex=codes.index(code), **parts)


def _table(b: flatbuffers.Builder, kind: str, **fields: Any) -> int:
    getattr(schema, f"{kind}Start")(b)
    for name, value in fields.items():
        getattr(schema, f"{kind}Add{name}")(b, value)
    return int(getattr(schema, f"{kind}End")(b))


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.array(values, np.int32)))


def _offsets(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
