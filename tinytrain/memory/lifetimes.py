# SPDX-License-Identifier: Apache-2.0
"""From which node to which node each piece of arena is in use. Views and in-place results share one piece."""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.graph import Graph, Node
from tinytrain.ops import lookup

ALIGNMENT = 4  # bytes; every kernel reads elements of at most four


def aligned(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """A piece of arena: `nbytes` bytes in use from node index `first` to `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Bytes with the padding that aligns the next piece."""
        return aligned(self.nbytes)

    def overlaps(self, other: Lifetime) -> bool:
        return self.first <= other.last and other.first <= self.last


def scratch_name(node: Node) -> str:
    return f"{node.name}:scratch"


def lifetimes(graph: Graph) -> tuple[list[Lifetime], dict[str, str]]:
    """The pieces of arena a graph needs, and for each tensor in the arena the name of its piece.

    Inputs are there before the first node, graph outputs until the last one. A node's result takes over an input's
    bytes where the operator allows it and nobody needs that input afterwards.
    """
    last_use = _last_uses(graph)
    piece_of: dict[str, str] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}

    def open_piece(name: str, index: int, nbytes: int) -> None:
        piece_of[name], first[name], last[name], size[name] = name, index, index, nbytes

    for name in graph.inputs:
        if graph[name].role.in_arena:
            open_piece(name, 0, graph[name].nbytes)
            last[name] = max(0, last_use.get(name, 0))
    for index, node in enumerate(graph.nodes):
        for position, name in enumerate(node.outputs):
            if not graph[name].role.in_arena:
                continue
            host = _takes_over(graph, node, position, index, last_use, piece_of, last)
            if host is None:
                open_piece(name, index, graph[name].nbytes)
            else:
                piece_of[name] = host
            piece = piece_of[name]
            last[piece] = max(last[piece], last_use.get(name, index), index)
        op = lookup(node.op)
        if op.scratch_wanted(graph, node):
            open_piece(scratch_name(node), index, op.scratch(graph, node))
    return [Lifetime(name, size[name], first[name], last[name]) for name in size], piece_of


def _last_uses(graph: Graph) -> dict[str, int]:
    uses = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    return uses | {name: len(graph.nodes) - 1 for name in graph.outputs}


def _takes_over(
    graph: Graph,
    node: Node,
    position: int,
    index: int,
    last_use: dict[str, int],
    piece_of: dict[str, str],
    last: dict[str, int],
) -> str | None:
    """The piece whose bytes output `position` may take over, or None."""
    op = lookup(node.op)
    if op.view:
        return piece_of[node.inputs[0]]
    for source, target in op.in_place:
        if target != position or source >= len(node.inputs):
            continue
        name = node.inputs[source]
        piece = piece_of.get(name)
        free_after = piece is not None and last[piece] == index and node.inputs.count(name) == 1
        shown = any(piece_of.get(output) == piece for output in graph.outputs)  # itself, or through a view
        if free_after and not shown and graph[name].nbytes == graph[node.outputs[position]].nbytes:
            return piece
    return None
