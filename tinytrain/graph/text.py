# SPDX-License-Identifier: Apache-2.0
"""The readable text form of a graph. Tests compare it; `tinytrain inspect --text` prints it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph.graph import Graph
from tinytrain.graph.tensor import Role, Tensor


def to_text(graph: Graph) -> str:
    """One line per input, node and output, in execution order."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input  {_tensor(graph[name])}" for name in graph.inputs]
    for node in graph.nodes:
        results = ", ".join(_tensor(tensor) for tensor in graph.outs(node))
        operands = ", ".join(_operand(tensor) for tensor in graph.ins(node))
        attrs = " ".join(f"{key}={_attr(value)}" for key, value in sorted(node.attrs.items()))
        lines.append(f"  {results or '()'} = {node.op}({operands})" + (f" {attrs}" if attrs else ""))
    lines += [f"  output {name}" for name in graph.outputs]
    return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.name}: {tensor.dtype}{list(tensor.shape)}"
    if tensor.role is not Role.ACTIVATION:
        text += f" {tensor.role}"
    if tensor.alias_of:
        text += f" at {tensor.alias_of}"
    return text


def _operand(tensor: Tensor) -> str:
    return f"{tensor.name}{list(tensor.shape)}" if tensor.role is Role.CONSTANT else tensor.name


def _attr(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(_attr(item) for item in value) + "]"
    return str(value)
