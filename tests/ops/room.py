# SPDX-License-Identifier: Apache-2.0
"""Scratch beyond an operator's minimum: in tests of one node the arena has no gap that a planner could hand out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from tinytrain.graph import Graph, Node
from tinytrain.ops import lookup


@contextmanager
def room(op: str, extra: int) -> Iterator[None]:
    """Kernels of `op` get `extra` bytes more than they must have."""
    operator = type(lookup(op))
    smallest = operator.scratch

    def scratch(self: object, graph: Graph, node: Node) -> int:
        return int(smallest(self, graph, node)) + extra  # type: ignore[arg-type]

    with mock.patch.object(operator, "scratch", scratch):
        yield
