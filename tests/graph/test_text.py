# SPDX-License-Identifier: Apache-2.0
"""The text form of a graph."""

from __future__ import annotations

import numpy as np

from tests import nets
from tests.golden import assert_golden
from tinytrain.graph import Graph, Node, Role, Tensor, to_text


def test_a_forward_graph_reads_as_golden_text() -> None:
    assert_golden(__file__, "chain.txt", to_text(nets.chain()))


def test_roles_aliases_and_arrays_are_shown() -> None:
    graph = Graph("g", inputs=["x"])
    graph.add_tensor(Tensor("x", (1,), "int8"))
    graph.add_tensor(Tensor("w", (2,), "int8", Role.PARAMETER, data=np.zeros(2, np.int8)))
    graph.add_tensor(Tensor("w'", (2,), "int8", Role.PARAMETER, alias_of="w"))
    graph.add_node(Node("update", "step", ("x", "w"), ("w'",), {"table": np.zeros((2, 3), np.int16)}))
    graph.add_node(Node("nothing", "last", ("x",), ()))
    text = to_text(graph)
    assert "  w': int8[2] parameter at w = update(x, w) table=int16[2, 3]\n" in text
    assert "  () = nothing(x)\n" in text
