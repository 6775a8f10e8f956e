# SPDX-License-Identifier: Apache-2.0
"""A graph: tensors by name, nodes in execution order, SSA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tinytrain.errors import GraphError
from tinytrain.graph.node import Node
from tinytrain.graph.tensor import Tensor


@dataclass
class Graph:
    """inputs and outputs are tensor names; attrs hold facts about the model (file, input layout, class names)."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)

    def add_tensor(self, tensor: Tensor) -> Tensor:
        if tensor.name in self.tensors:
            raise GraphError(f"tensor '{tensor.name}' is defined twice", where=self.name)
        self.tensors[tensor.name] = tensor
        return tensor

    def add_node(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def ins(self, node: Node) -> list[Tensor]:
        """The input tensors of a node."""
        return [self.tensors[name] for name in node.inputs]

    def outs(self, node: Node) -> list[Tensor]:
        """The output tensors of a node."""
        return [self.tensors[name] for name in node.outputs]

    def producers(self) -> dict[str, Node]:
        """tensor name -> the node that writes it."""
        return {output: node for node in self.nodes for output in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """tensor name -> the nodes that read it, in order."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"no node '{name}' in graph '{self.name}'")

    def fresh(self, name: str) -> str:
        """`name`, or `name.2`, `name.3`, ... if it is taken."""
        candidate, count = name, 1
        while candidate in self.tensors:
            count += 1
            candidate = f"{name}.{count}"
        return candidate

    def storage(self, name: str) -> str:
        """The tensor whose bytes `name` uses, following aliases."""
        while (alias := self.tensors[name].alias_of) is not None:
            name = alias
        return name

    def copy(self) -> Graph:
        """A copy whose containers may be changed; tensors and nodes are immutable and shared."""
        return Graph(
            self.name, dict(self.tensors), list(self.nodes), list(self.inputs), list(self.outputs), dict(self.attrs)
        )

    def drop_unused_tensors(self, keep: Iterable[str] = ()) -> None:
        """Forget tensors that no node, input or output names (and that `keep` does not name)."""
        used = {*self.inputs, *self.outputs, *keep}
        for node in self.nodes:
            used.update(node.inputs, node.outputs)
        for name in list(used):
            tensor = self.tensors.get(name)
            while tensor is not None:
                exponent = tensor.exponent.state if tensor.exponent else None
                used.update(item for item in (tensor.name, exponent, tensor.master, tensor.accumulator) if item)
                tensor = self.tensors.get(tensor.alias_of) if tensor.alias_of else None
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name in used}
