# SPDX-License-Identifier: Apache-2.0
"""Remove nodes whose results nobody reads."""

from __future__ import annotations

from tinytrain.graph import Graph, Node


def prune(graph: Graph) -> Graph:
    """A graph without dead nodes. What writes a graph output or a persistent tensor is alive."""
    graph = graph.copy()
    needed = set(graph.outputs)
    alive: list[Node] = []
    for node in reversed(graph.nodes):
        if any(name in needed or graph[name].role.persistent for name in node.outputs):
            alive.append(node)
            needed.update(node.inputs)
    graph.nodes = alive[::-1]
    graph.drop_unused_tensors()
    return graph
