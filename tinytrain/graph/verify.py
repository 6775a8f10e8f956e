# SPDX-License-Identifier: Apache-2.0
"""The rules every graph keeps; run after every pass."""

from __future__ import annotations

from tinytrain.errors import GraphError
from tinytrain.graph.graph import Graph
from tinytrain.graph.tensor import Role


def verify(graph: Graph) -> Graph:
    """Return the graph, or raise GraphError naming the node or tensor that breaks a rule."""
    _verify_order(graph)
    _verify_tensors(graph)
    _verify_updates(graph)
    return graph


def _verify_order(graph: Graph) -> None:
    written = set(graph.inputs)
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"two nodes are called '{node.name}'", where=graph.name)
        names.add(node.name)
        for name in node.inputs:
            tensor = graph.tensors.get(name)
            if tensor is None:
                raise GraphError(f"node '{node.name}' reads the undefined tensor '{name}'", where=graph.name)
            if name not in written and tensor.role is not Role.CONSTANT and not tensor.role.persistent:
                raise GraphError(f"node '{node.name}' reads '{name}' before it is written", where=graph.name)
        for name in node.outputs:
            if name not in graph.tensors:
                raise GraphError(f"node '{node.name}' writes the undefined tensor '{name}'", where=graph.name)
            if name in written:
                raise GraphError(f"tensor '{name}' is written twice, again by '{node.name}'", where=graph.name)
            if graph[name].role is Role.CONSTANT:
                raise GraphError(f"node '{node.name}' writes the constant '{name}'", where=graph.name)
            written.add(name)
    for name in graph.outputs:
        if name not in written:
            raise GraphError(f"graph output '{name}' is never written", where=graph.name)


def _verify_tensors(graph: Graph) -> None:
    for key, tensor in graph.tensors.items():
        if key != tensor.name:
            raise GraphError(f"tensor '{tensor.name}' is filed under '{key}'", where=graph.name)
        if any(not isinstance(extent, int) or extent <= 0 for extent in tensor.shape):
            raise GraphError(f"tensor '{key}' has the shape {list(tensor.shape)}", where=graph.name)
        if tensor.role is Role.CONSTANT and tensor.data is None:
            raise GraphError(f"constant '{key}' has no value", where=graph.name)
        data = tensor.data if tensor.dtype != "bit" else None
        if data is not None and (data.shape != tensor.shape or str(data.dtype) != tensor.dtype):
            raise GraphError(
                f"the value of '{key}' is {data.dtype}{list(data.shape)}, declared {tensor.dtype}{list(tensor.shape)}",
                where=graph.name,
            )
        if tensor.alias_of is not None and tensor.alias_of not in graph.tensors:
            raise GraphError(f"'{key}' takes over the bytes of the undefined '{tensor.alias_of}'", where=graph.name)
        if tensor.exponent and tensor.exponent.state and tensor.exponent.state not in graph.tensors:
            raise GraphError(f"the exponent of '{key}' is the undefined '{tensor.exponent.state}'", where=graph.name)


def _verify_updates(graph: Graph) -> None:
    """A persistent tensor's old version is not read once its next version is written."""
    replaced: dict[str, str] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if name in replaced:
                raise GraphError(
                    f"node '{node.name}' reads '{name}' after '{replaced[name]}' updated it", where=graph.name
                )
        for name in node.outputs:
            old = graph[name].alias_of
            if old is not None and graph[name].role.persistent:
                replaced[old] = node.name
