# SPDX-License-Identifier: Apache-2.0
"""The frozen prefix of a training step: the rows before the first one that reads anything trained.

What they leave in the arena depends on the sample alone. So it can be kept, and put back instead of computed again:
the rows after it find the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from tinytrain.graph import Graph, Node, Phase
from tinytrain.host.machine import Machine
from tinytrain.memory import Layout
from tinytrain.ops import lookup
from tinytrain.program import Space


@dataclass(frozen=True)
class FrozenPrefix:
    """rows: how many of a program's rows; spans: (offset, bytes) of the arena that later rows read."""

    rows: int
    spans: tuple[tuple[int, int], ...]

    @property
    def nbytes(self) -> int:
        return sum(size for _, size in self.spans)


def frozen_prefix(graph: Graph, layout: Layout) -> FrozenPrefix:
    """Of a training graph and its arena layout."""
    end = next((index for index, node in enumerate(graph.nodes) if _may_change(graph, node)), len(graph.nodes))
    rows = sum(lookup(node.op).lower(graph, node) is not None for node in graph.nodes[:end])
    if rows == 0:
        return FrozenPrefix(0, ())
    alive = [piece for piece in layout.pieces if piece.first < end <= piece.last]
    spans = sorted((layout.offsets[piece.name], piece.nbytes) for piece in alive)
    return FrozenPrefix(rows, tuple(_joined(spans)))


def _may_change(graph: Graph, node: Node) -> bool:
    """Whether a node depends on more than the sample: on what is trained, or on its label."""
    return node.phase not in (Phase.FORWARD, Phase.SAVE) or any(graph[name].role.persistent for name in node.inputs)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch become one."""
    joined: list[tuple[int, int]] = []
    for offset, size in spans:
        if joined and sum(joined[-1]) == offset:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        else:
            joined.append((offset, size))
    return joined


class PrefixCache:
    """What the prefix leaves, sample by sample, for any machine of one program.

    limit: bytes; once they are used, further samples are computed each time
    """

    def __init__(self, prefix: FrozenPrefix, limit: int) -> None:
        self.prefix = prefix
        self.room = limit // prefix.nbytes if prefix.rows else 0
        self._kept: dict[Hashable, np.ndarray] = {}

    @property
    def nbytes(self) -> int:
        return len(self._kept) * self.prefix.nbytes

    def load(self, machine: Machine, key: Hashable | None, sample: Callable[[], np.ndarray]) -> int:
        """Load a sample and run the prefix, or put back what it left -> the first row still to be run.

        key: names the sample; None where it will not come again. sample: makes it, int8, if it is needed
        """
        arena = machine.memory[Space.ARENA]
        kept = self._kept.get(key) if key is not None else None
        if kept is None:
            machine.set_input(sample())
            if key is None or len(self._kept) >= self.room:
                return 0
            machine.run((Phase.FORWARD, Phase.SAVE), 0, self.prefix.rows)
            self._kept[key] = np.concatenate([arena[start : start + size] for start, size in self.prefix.spans])
            return self.prefix.rows
        position = 0
        for start, size in self.prefix.spans:
            arena[start : start + size] = kept[position : position + size]
            position += size
        return self.prefix.rows
