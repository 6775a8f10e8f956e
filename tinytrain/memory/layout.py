# SPDX-License-Identifier: Apache-2.0
"""Arena layout: an offset for every piece such that pieces alive together do not overlap.

Offset assignment is an NP-hard packing problem; pieces are placed one by one at the lowest offset that is free, in
several orders (greedy by size is the one of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
Inference", 2020), and the order is then improved by moving the highest piece forward. The lower bound, the largest sum
of bytes alive at one node, says how much any layout could still save.

The best packing is then turned upside down: what was placed first, the large tensors, ends up at the arena's end. The
firmware measures what it uses of the arena by the last byte written, and a kernel need not fill its scratch.

Scratch lives at one node only. Once everything has its place, each kernel's scratch grows into the largest gap at its
node, up to what the kernel has use for: speed that costs no byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tinytrain.graph import Graph
from tinytrain.memory.lifetimes import ALIGNMENT, Lifetime, lifetimes, scratch_name
from tinytrain.ops import lookup

IMPROVEMENT_ROUNDS = 60


@dataclass(frozen=True)
class Layout:
    """offsets: arena offset of every tensor and scratch in the arena; peak_node: where the lower bound is reached."""

    offsets: dict[str, int]
    arena: int
    lower_bound: int
    peak_node: int
    pieces: tuple[Lifetime, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every piece, by name."""
        return {piece.name: piece.nbytes for piece in self.pieces}


def lay_out(graph: Graph) -> Layout:
    """Assign offsets to everything that lives in the arena."""
    pieces, piece_of = lifetimes(graph)
    bound, peak_node = lower_bound(pieces, len(graph.nodes))
    placed = _upside_down(_best_placement(pieces, bound), pieces)
    # what lies on top need not be a whole number of words
    arena = max((placed[piece.name] + piece.nbytes for piece in pieces), default=0)
    for node in graph.nodes:
        wanted = lookup(node.op).scratch_wanted(graph, node)
        if wanted > lookup(node.op).scratch(graph, node):
            _grow(scratch_name(node), wanted, pieces, placed, arena)
    offsets = dict(placed) | {name: placed[piece] for name, piece in piece_of.items()}
    return Layout(offsets, arena, min(bound, arena), peak_node, tuple(pieces))


def _grow(name: str, wanted: int, pieces: list[Lifetime], placed: dict[str, int], arena: int) -> None:
    """Move a scratch into the largest gap of the arena at its node, and give it the bytes there, `wanted` at most."""
    index = next(i for i, piece in enumerate(pieces) if piece.name == name)
    scratch = pieces[index]
    alive = [piece for piece in pieces if piece is not scratch and piece.overlaps(scratch)]
    ends = [0, *(placed[piece.name] + piece.size for piece in alive)]
    starts = [*(placed[piece.name] for piece in alive), arena]
    gaps = [(min((start for start in starts if start >= end), default=end) - end, -end) for end in ends]
    size, end = max(gaps)
    size -= size % ALIGNMENT
    if size > scratch.nbytes:
        placed[name] = -end
        pieces[index] = replace(scratch, nbytes=min(wanted, size))


def lower_bound(pieces: list[Lifetime], nodes: int) -> tuple[int, int]:
    """(the largest sum of bytes in use at one node, that node's index)."""
    change = [0] * (nodes + 1)
    for piece in pieces:
        change[piece.first] += piece.size
        change[piece.last + 1] -= piece.size
    best, best_node, live = 0, 0, 0
    for index in range(nodes):
        live += change[index]
        if live > best:
            best, best_node = live, index
    return best, best_node


def _best_placement(pieces: list[Lifetime], bound: int) -> dict[str, int]:
    neighbours = {
        piece.name: [other for other in pieces if other is not piece and piece.overlaps(other)] for piece in pieces
    }
    orders: list[Callable[[Lifetime], tuple[int, ...]]] = [
        lambda p: (-p.size, p.first),
        lambda p: (p.first - p.last, -p.size),
        lambda p: (-p.size * (p.last - p.first + 1), p.first),
        lambda p: (p.first, -p.size),
    ]
    best: dict[str, int] = {}
    best_height = -1
    for key in orders:
        order = sorted(pieces, key=key)
        for _ in range(IMPROVEMENT_ROUNDS):
            placed = _place(order, neighbours)
            height = max((placed[p.name] + p.size for p in pieces), default=0)
            if best_height < 0 or height < best_height:
                best, best_height = placed, height
            if height <= bound:
                return placed
            highest = max(order, key=lambda p: placed[p.name] + p.size)
            position = order.index(highest)
            if position == 0:
                break
            order.insert(position // 2, order.pop(position))
    return best


def _upside_down(placed: dict[str, int], pieces: list[Lifetime]) -> dict[str, int]:
    top = max((placed[piece.name] + piece.size for piece in pieces), default=0)
    # scratch of no bytes keeps an address inside the arena
    return {piece.name: top - placed[piece.name] - piece.size if piece.size else 0 for piece in pieces}


def _place(order: list[Lifetime], neighbours: dict[str, list[Lifetime]]) -> dict[str, int]:
    placed: dict[str, int] = {}
    for piece in order:
        taken = sorted(
            (placed[other.name], placed[other.name] + other.size)
            for other in neighbours[piece.name]
            if other.name in placed
        )
        offset = 0
        for start, end in taken:
            if start - offset >= piece.size:
                break
            offset = max(offset, end)
        placed[piece.name] = offset
    return placed
