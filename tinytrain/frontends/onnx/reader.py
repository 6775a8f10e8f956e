# SPDX-License-Identifier: Apache-2.0
"""The bytes of an ONNX file as checked, plain values with every shape known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from tinytrain.errors import ModelError
from tinytrain.frontends.builder import dynamic_shape, float_model

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_QDQ_FIX = (
    "export it as QDQ: onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ, per_channel=True)"
)

# attributes of Constant that hold plain numbers
_PLAIN_CONSTANTS = {
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}

# operators whose further inputs (a target shape, axes) are known from shape inference
_DATA_INPUTS = {"Reshape": 1, "Squeeze": 1, "Unsqueeze": 1, "Dropout": 1}


@dataclass(frozen=True)
class FileNode:
    """One operator; inputs and outputs are tensor names, "" where left out."""

    index: int
    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]

    def input(self, position: int) -> str:
        return self.inputs[position] if position < len(self.inputs) else ""


@dataclass(frozen=True)
class FileModel:
    path: Path
    opset: int
    nodes: list[FileNode]  # those that the outputs depend on, in order
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]  # numpy names


def read(content: bytes, path: Path) -> FileModel:
    model = _checked(content, path)
    types = {node.op_type for node in model.graph.node}
    if types.intersection(_INTEGER_OPERATORS):
        operator = next(node for node in model.graph.node if node.op_type in _INTEGER_OPERATORS)
        raise ModelError(
            f"{operator.op_type} '{operator.name or operator.output[0]}' is not supported",
            where=str(path),
            why="the model is in the QOperator format; only QDQ (QuantizeLinear, DequantizeLinear) is read",
            fix=_QDQ_FIX,
        )
    if model.graph.node and not types.intersection(_QDQ):
        raise float_model(path)
    constants = _constants(model, path)
    inputs = [value for value in model.graph.input if value.name not in constants]
    _fix_batch(inputs, path)
    nodes = _needed(model.graph)
    shapes, dtypes = _inferred(model, path)
    return FileModel(
        path,
        next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        nodes,
        tuple(value.name for value in inputs),
        tuple(value.name for value in model.graph.output),
        constants,
        shapes,
        dtypes,
    )


def _checked(content: bytes, path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
        onnx.load_external_data_for_model(model, str(path.parent))
        for node in model.graph.node:
            if node.op_type in _QDQ and node.domain == "com.microsoft":
                node.domain = ""
        for value in model.graph.output:  # the checker wants a shape here; it is inferred later
            value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
        return model
    except OSError as error:
        raise ModelError(
            f"a file that '{path.name}' keeps weights in cannot be read",
            where=str(path),
            why=str(error),
            fix="keep the .data files beside the model, or save it as one file",
        ) from None
    except (DecodeError, onnx.checker.ValidationError, ValueError, TypeError, RuntimeError, UnicodeError) as error:
        raise ModelError(
            f"'{path.name}' is not a valid ONNX (or TFLite) file",
            where=str(path),
            why=_first_line(error),
            fix="it may be cut short or damaged: export or download it again",
        ) from None


def _constants(model: onnx.ModelProto, path: Path) -> dict[str, np.ndarray]:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    plain: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                tensors[node.output[0]] = attribute.t
            elif attribute.name in _PLAIN_CONSTANTS:
                value = onnx.helper.get_attribute_value(attribute)
                plain[node.output[0]] = np.array(value, _PLAIN_CONSTANTS[attribute.name])
    try:
        return {**plain, **{name: onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items()}}
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"'{path.name}' holds a constant that cannot be read", where=str(path), why=_first_line(error)
        ) from None


def _fix_batch(inputs: list[onnx.ValueInfoProto], path: Path) -> None:
    """A free first dimension becomes 1; any other free dimension is refused."""
    for value in inputs:
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            raise dynamic_shape(path, value.name, ["?"])
        dims = tensor.shape.dim
        if dims and not dims[0].dim_value > 0:
            dims[0].dim_value = 1
        extents = [dim.dim_value if dim.dim_value > 0 else dim.dim_param or "?" for dim in dims]
        if any(not isinstance(extent, int) for extent in extents):
            raise dynamic_shape(path, value.name, extents)


def _inferred(model: onnx.ModelProto, path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Every shape and dtype that follows from the inputs; what the file declares between is not needed."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError, DecodeError) as error:
        raise ModelError(
            f"the shapes in '{path.name}' do not fit together",
            where=str(path),
            why=_first_line(error),
            fix="export the model again",
        ) from None
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
        if tensor.elem_type in onnx.helper.get_all_tensor_dtypes():
            dtypes[value.name] = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return shapes, dtypes


def _needed(graph: onnx.GraphProto) -> list[FileNode]:
    """The nodes that the outputs depend on, without arithmetic on shapes."""
    wanted = {value.name for value in graph.output}
    kept = []
    for index, node in reversed(list(enumerate(graph.node))):
        outputs = tuple(node.output)
        if node.op_type == "Constant" or not wanted.intersection(outputs):
            continue
        wanted.update(node.input[: _DATA_INPUTS.get(node.op_type, len(node.input))])
        attrs = {attribute.name: _attribute(attribute) for attribute in node.attribute}
        operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        name = node.name or next((output for output in outputs if output), f"node {index}")
        kept.append(FileNode(index, operator, name, tuple(node.input), outputs, attrs))
    return kept[::-1]


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
