# SPDX-License-Identifier: Apache-2.0
"""Dead nodes go; what writes an output or persistent memory stays."""

from __future__ import annotations

import numpy as np

from tests.nets import Net
from tinytrain.graph import Graph, Node, Phase, Role, Tensor, to_text
from tinytrain.passes.prune import prune


def test_a_chain_that_ends_nowhere_is_removed_whole() -> None:
    net = Net(np.random.default_rng(0))
    y = net.conv("kept", net.input((2, 2, 3)), 4)
    net.relu("dead2", net.conv("dead1", y, 3))
    graph = net.done(y)
    pruned = prune(graph)
    assert [node.name for node in pruned.nodes] == ["kept"]
    assert set(pruned.tensors) == {"x", "kept.w", "kept.b", "kept.y"}
    assert len(graph.nodes) == 3, "the given graph is left alone"


def test_what_writes_persistent_memory_is_alive() -> None:
    graph = Graph("g", inputs=["x"], outputs=[])
    graph.add_tensor(Tensor("x", (1,), "int8"))
    graph.add_tensor(Tensor("w", (1,), "int8", Role.PARAMETER, data=np.zeros(1, np.int8)))
    graph.add_tensor(Tensor("w'", (1,), "int8", Role.PARAMETER, alias_of="w"))
    graph.add_node(Node("update", "step", ("x", "w"), ("w'",), phase=Phase.UPDATE))
    assert [node.name for node in prune(graph).nodes] == ["step"]


def test_a_graph_without_dead_nodes_stays_as_it_is(residual: Graph) -> None:
    assert to_text(prune(residual)) == to_text(residual)
