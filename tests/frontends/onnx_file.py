# SPDX-License-Identifier: Apache-2.0
"""Writes small ONNX QDQ files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class OnnxFile:
    """Nodes are added in order; every method returns the name of the tensor it makes."""

    def __init__(self, shape: Sequence[Any], dtype: int = TensorProto.FLOAT, opset: int = 17) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("input", dtype, list(shape))
        self.opset = opset

    def constant(self, data: Any, name: str = "") -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def node(self, op: str, inputs: Sequence[str], name: str = "", **attrs: Any) -> str:
        name = name or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name, **attrs))
        return f"{name}_out"

    def quantize(self, x: str, scale: float, zero: int = 0, dtype: type = np.int8) -> str:
        return self.node("QuantizeLinear", [x, self.constant(np.float32(scale)), self.constant(dtype(zero))])

    def dequantize(self, x: str, scale: Any, zero: Any = 0, dtype: type = np.int8, axis: int | None = None) -> str:
        scale = np.asarray(scale, np.float32)
        zeros = np.full(scale.shape, zero, dtype)
        attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", [x, self.constant(scale), self.constant(zeros)], **attrs)

    def qdq(self, x: str, scale: float, zero: int = 0, dtype: type = np.int8) -> str:
        return self.dequantize(self.quantize(x, scale, zero, dtype), scale, zero, dtype)

    def weight(self, data: np.ndarray, scale: Any, axis: int | None = None, zero: int = 0) -> str:
        return self.dequantize(self.constant(data), scale, zero, data.dtype.type, axis)

    def model(self, *outputs: str) -> onnx.ModelProto:
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", [self.input], results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)

    def content(self, *outputs: str) -> bytes:
        return self.model(*outputs).SerializeToString()
