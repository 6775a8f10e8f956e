# SPDX-License-Identifier: Apache-2.0
"""Lowering: (graph, arena layout) -> Program."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node, Role, Tensor
from tinytrain.memory import Layout, aligned
from tinytrain.memory.lifetimes import scratch_name
from tinytrain.ops import Ref, Scratch, ScratchBytes, Structs, lookup
from tinytrain.program.program import Array, Location, Pointer, Program, Row, Space, StructArray

_SPACES = {
    Role.PARAMETER: Space.PARAMETERS,
    Role.MASTER: Space.MASTERS,
    Role.OPTIMIZER: Space.OPTIMIZER,
    Role.STATE: Space.STATE,
}


def lower(graph: Graph, layout: Layout) -> Program:
    """Give every tensor its address and every node its kernel call."""
    return _Lowering(graph, layout).program()


def _whole(size: int) -> int:
    """Persistent spaces are whole multiples of 8 bytes, so that a linker leaves no gaps between them."""
    return (size + 7) // 8 * 8


class _Lowering:
    def __init__(self, graph: Graph, layout: Layout) -> None:
        self.graph, self.layout = graph, layout
        self.constants: list[Array] = []
        self.constant_index: dict[tuple[str, bytes], int] = {}
        self.locations: dict[str, Location] = {}
        self.sizes = dict.fromkeys(Space, 0)
        self.sizes[Space.ARENA] = layout.arena
        self.images: dict[Space, np.ndarray] = {}

    def program(self) -> Program:
        self._place_persistent()
        rows = [row for node in self.graph.nodes if (row := self._row(node)) is not None]
        for name, offset in self.layout.offsets.items():
            self.locations[name] = Location(Space.ARENA, offset)
        return Program(
            self.graph.name, rows, self.constants, self.sizes, self.images, self.graph.tensors, self.locations,
            self.graph.inputs[0], self.graph.outputs[0],
        )  # fmt: skip

    def _place_persistent(self) -> None:
        """Persistent tensors one after another, in the order of the graph; their initial values become images."""
        pieces: dict[Space, list[tuple[int, Tensor]]] = {space: [] for space in _SPACES.values()}
        for tensor in self.graph.tensors.values():
            space = _SPACES.get(tensor.role)
            if space is None or tensor.alias_of is not None:
                continue
            offset = self.sizes[space]
            self.locations[tensor.name] = Location(space, offset)
            self.sizes[space] = offset + aligned(tensor.nbytes)
            pieces[space].append((offset, tensor))
        for space, members in pieces.items():
            self.sizes[space] = _whole(self.sizes[space])
            image = np.zeros(self.sizes[space], np.uint8)
            for offset, tensor in members:
                if tensor.data is not None:
                    image[offset : offset + tensor.nbytes] = np.frombuffer(tensor.data.tobytes(), np.uint8)
            self.images[space] = image

    def _row(self, node: Node) -> Row | None:
        op = lookup(node.op)
        call = op.lower(self.graph, node)
        if call is None:
            return None
        args = {key: self._argument(node, key, value) for key, value in call.args.items()}
        macs = op.cost(self.graph, node).macs
        reads = sum(tensor.size for tensor in self.graph.ins(node) if tensor.role.in_arena)
        writes = sum(tensor.size for tensor in self.graph.outs(node))
        wanted = op.scratch_wanted(self.graph, node)
        room = min(1.0, self.layout.sizes.get(scratch_name(node), 0) / wanted) if wanted else 1.0
        return Row(call.kernel, args, node.phase, node.name, node.origin or node.name, macs, reads, writes, room)

    def _argument(self, node: Node, key: str, value: Any) -> Any:
        match value:
            case bool() | int() | np.integer():
                return int(value)
            case None:
                return Pointer(None)
            case Ref():
                return Pointer(self._locate(value.tensor))
            case Scratch():
                offset = self.layout.offsets.get(scratch_name(node))
                return Pointer(None if offset is None else Location(Space.ARENA, offset))
            case ScratchBytes():
                return self.layout.sizes.get(scratch_name(node), 0)
            case np.ndarray():
                return Pointer(self._constant(f"{node.name}.{key}", value))
            case Structs():
                items = tuple({k: self._argument(node, k, v) for k, v in item.items()} for item in value.items)
                return StructArray(value.struct, items)
            case dict():
                return {k: self._argument(node, k, v) for k, v in value.items()}
        raise TypeError(f"{node.name}: argument {key} is a {type(value).__name__}")

    def _locate(self, name: str) -> Location:
        if name in self.layout.offsets:
            return Location(Space.ARENA, self.layout.offsets[name])
        tensor = self.graph[self.graph.storage(name)]
        if tensor.role is Role.CONSTANT:
            assert tensor.data is not None
            location = self._constant(tensor.name, tensor.data)
            self.locations[name] = location
            return location
        return self.locations[tensor.name]

    def _constant(self, name: str, data: np.ndarray) -> Location:
        """Equal arrays are stored once."""
        data = np.ascontiguousarray(data)
        key = (str(data.dtype), data.tobytes())
        if key not in self.constant_index:
            self.constant_index[key] = len(self.constants)
            self.constants.append(Array(name, data))
        return Location(Space.CONSTANTS, self.constant_index[key])
