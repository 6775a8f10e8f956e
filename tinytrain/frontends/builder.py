# SPDX-License-Identifier: Apache-2.0
"""What both front ends share: building a Graph under unique names, and the last checks on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinytrain import ops
from tinytrain.errors import GraphError, ModelError
from tinytrain.frontends import folds
from tinytrain.graph import Graph, Node, Quantization, Role, Tensor, verify

INT8_MIN, INT8_MAX = -128, 127
MOST_ELEMENTS = 1 << 24
FULL_RANGE = (INT8_MIN, INT8_MAX)

FLOAT_FIX = (
    "export an int8 model: full integer quantization of the TFLite converter, "
    "or onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ, per_channel=True)"
)
REMEDY = "export the model without it, or cut the model before it"


def float_model(path: Path) -> ModelError:
    return ModelError(
        f"'{path.name}' is a float model, and quantization is not available yet",
        where=str(path),
        why="its activations are floats; tinytrain trains int8 networks",
        fix=FLOAT_FIX,
    )


def dynamic_shape(path: Path, tensor: str, shape: Sequence[object]) -> ModelError:
    return ModelError(
        f"the shape of '{tensor}' is dynamic: [{', '.join(str(extent) for extent in shape)}]",
        where=str(path),
        why="every address is fixed at compile time, so every shape must be known (only the batch may be free)",
        fix="export the model with fixed shapes",
    )


def padding_of(kind: str, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """(top, bottom, left, right) of "VALID", "SAME" (the odd cell goes to the end) or "SAME_LOWER" padding."""
    padding: list[int] = []
    for extent, width, step in zip(size, kernel, strides, strict=True):
        total = 0 if kind == "VALID" else max((-(-extent // step) - 1) * step + width - extent, 0)
        smaller, larger = total // 2, total - total // 2
        padding += [larger, smaller] if kind == "SAME_LOWER" else [smaller, larger]
    return tuple(padding)


@dataclass(frozen=True)
class Operand:
    """An int8 tensor of the graph as an operand of add or mul."""

    name: str
    constant: bool = False


class GraphBuilder:
    """Adds tensors and nodes under unique names."""

    def __init__(self, path: Path, file_format: str) -> None:
        self.path = path
        self.graph = Graph(path.stem, attrs={"file": str(path), "format": file_format, "input_layout": "HWC"})
        self._node_names: set[str] = set()

    def __getitem__(self, tensor: str) -> Tensor:
        return self.graph[tensor]

    def activation(self, name: str, shape: Sequence[int], quantization: Quantization) -> str:
        """A new int8 activation; a scalar becomes one element."""
        extents = tuple(int(extent) for extent in shape) or (1,)
        return self.graph.add_tensor(Tensor(self.graph.fresh(name), extents, "int8", quantization=quantization)).name

    def constant(self, name: str, data: np.ndarray, quantization: Quantization | None = None) -> str:
        """A constant; asking twice for the same one gives the same tensor, so that shared weights stay visible."""
        known = self.graph.tensors.get(name)
        if (
            known is not None
            and known.data is not None
            and known.dtype == str(data.dtype)
            and known.quantization == quantization
            and np.array_equal(known.data, data)
        ):
            return name
        name = self.graph.fresh(name)
        data = np.ascontiguousarray(data)
        self.graph.add_tensor(Tensor(name, data.shape, str(data.dtype), Role.CONSTANT, quantization, data))
        return name

    def node(self, op: str, name: str, inputs: Sequence[str], output: str, *, origin: str = "", **attrs: Any) -> str:
        """Append a node; returns the name of its output."""
        candidate, count = name, 1
        while candidate in self._node_names:
            count += 1
            candidate = f"{name}.{count}"
        self._node_names.add(candidate)
        self.graph.add_node(Node(op, candidate, tuple(inputs), (output,), attrs, origin or candidate))
        return output

    def layer(
        self,
        op: str,
        name: str,
        x: str,
        weight: str,
        bias: np.ndarray | None,
        bias_name: str,
        output: str,
        **attrs: Any,
    ) -> str:
        """A convolution or fully connected node; the bias (int32[CO], zeros if None) counts in x scale * w scale."""
        quantization = self[weight].quantization
        assert quantization is not None
        count = self[weight].shape[-1 if op == "depthwise_conv2d" else 0]
        axis = None if quantization.axis is None else 0
        meaning = Quantization(self[x].scale * quantization.scale, 0, axis)
        bias = np.zeros(count, np.int32) if bias is None else bias
        return self.node(op, name, (x, self.constant(bias_name, bias, meaning), weight), output, **attrs)

    def fully_connected(
        self, name: str, x: str, weight: str, bias: np.ndarray | None, bias_name: str, output: str,
        shape: tuple[int, ...], quantization: Quantization, clamp: tuple[int, int],
    ) -> str:  # fmt: skip
        """A fully connected node; where the file's `shape` of the result is not [CO], a view of it follows."""
        vector = self[weight].shape[:1]
        y = self.activation(output if shape == vector else f"{name}.vector", vector, quantization)
        self.layer("fully_connected", name, x, weight, bias, bias_name, y, clamp=clamp, rounding="single")
        return self.reshaped(y, shape, output, name)

    def binary(self, op: str, name: str, a: Operand, b: Operand, output: str, clamp: tuple[int, int]) -> str:
        """add or mul with the constant, or else the smaller operand, second."""
        if (a.constant, -self[a.name].size) > (b.constant, -self[b.name].size):
            a, b = b, a
        return self.node(op, name, (a.name, b.name), output, clamp=clamp)

    def requantized(
        self, x: str, quantization: Quantization, origin: str, name: str = "", clamp: tuple[int, int] = FULL_RANGE
    ) -> str:
        """`x` in another quantization (and clamp), or `x` itself where nothing changes."""
        if self[x].quantization == quantization and clamp == FULL_RANGE:
            return x
        name = name or f"{origin}.requantize"
        return self.node(
            "requantize", name, (x,), self.activation(name, self[x].shape, quantization), origin=origin, clamp=clamp
        )

    def reshaped(self, x: str, shape: Sequence[int], name: str, origin: str = "") -> str:
        """`x` as a view of another shape, or `x` itself where the shape is the same."""
        quantization = self[x].quantization
        assert quantization is not None
        extents = tuple(shape) or (1,)
        if self[x].shape == extents:
            return x
        return self.node("reshape", name, (x,), self.activation(name, extents, quantization), origin=origin)

    def transposed(self, x: str, perm: Sequence[int], name: str, origin: str = "") -> str:
        """`x` with its dimensions in another order, or `x` itself where none moves."""
        quantization = self[x].quantization
        assert quantization is not None
        if tuple(perm) == tuple(range(len(perm))):
            return x
        shape = [self[x].shape[axis] for axis in perm]
        return self.node(
            "transpose", name, (x,), self.activation(name, shape, quantization), origin=origin, perm=tuple(perm)
        )

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """Fold what can be folded, and check every rule of the IR and of the operators."""
        graph = self.graph
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        self._check_ends()
        folds.drop_unread_nodes(graph)
        if graph.attrs["format"] == "tflite":  # an ONNX image is HWC in the graph from the start
            folds.fold_input_transpose(graph)
        folds.fold_pads(graph)
        graph.drop_unused_tensors()
        try:
            verify(graph)
            for node in graph.nodes:
                self._check_size(node)
                self._check_shapes(node)
        except GraphError as error:
            raise ModelError(error.what, where=str(self.path), why=error.why, fix=error.fix or REMEDY) from None
        return graph

    def _check_ends(self) -> None:
        graph = self.graph
        for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
            if len(names) != 1:
                raise ModelError(
                    f"the model has {len(names)} {kind}s, and exactly one is supported",
                    where=str(self.path),
                    why=f"its {kind}s are {', '.join(names)}" if names else "",
                    fix=f"export it with one {kind}",
                )
        if not graph.nodes:
            raise ModelError("the model computes nothing", where=str(self.path), why="it holds no operator")

    def _check_size(self, node: Node) -> None:
        """Nothing that a microcontroller could never hold; a damaged file may ask for any size."""
        shapes = [tensor.shape for tensor in self.graph.outs(node)]
        if "strides" in node.attrs:
            top, bottom, left, right = node.attrs["padding"]
            height, width, _ = self.graph[node.inputs[0]].shape
            shapes.append((height + top + bottom, width + left + right))
        for shape in shapes:
            if math.prod(shape) > MOST_ELEMENTS:
                raise GraphError(f"'{node.name}' ({node.op}) needs {list(shape)} elements", why="that is too large")

    def _check_shapes(self, node: Node) -> None:
        """The shapes the file declares are the ones that the operator computes."""
        inferred = ops.lookup(node.op).infer(self.graph, node)
        declared = [(tensor.shape, tensor.dtype) for tensor in self.graph.outs(node)]
        if inferred != declared:
            raise GraphError(
                f"'{node.name}' ({node.op}) does not have the shape that the file declares",
                why=f"declared {_shapes(declared)}, computed {_shapes(inferred)}",
                fix="export the model again",
            )


def _shapes(tensors: list[tuple[tuple[int, ...], str]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in tensors)
