# SPDX-License-Identifier: Apache-2.0
"""The text form of a graph."""

from __future__ import annotations

import numpy as np

from tests import nets
from tinytrain.graph import Graph, Node, Role, Tensor, to_text

CHAIN = """\
graph chain
  input  x: int8[6, 6, 3]
  stem.y: int8[3, 3, 8] = conv2d(x, stem.b[8], stem.w[8, 3, 3, 3]) clamp=[-128,127] padding=[1,1,1,1] rounding=double strides=[2,2]
  middle.y: int8[3, 3, 6] = conv2d(stem.y, middle.b[6], middle.w[6, 1, 1, 8]) clamp=[-128,127] padding=[0,0,0,0] rounding=double strides=[1,1]
  last.y: int8[3, 3, 5] = conv2d(middle.y, last.b[5], last.w[5, 1, 1, 6]) clamp=[-128,127] padding=[0,0,0,0] rounding=double strides=[1,1]
  pool.y: int8[5] = mean(last.y) axes=[0,1] clamp=[-128,127] keepdims=False
  head.y: int8[4] = fully_connected(pool.y, head.b[4], head.w[4, 5]) clamp=[-128,127] rounding=single
  output head.y
"""


def test_a_forward_graph_reads_as_golden_text() -> None:
    assert to_text(nets.chain()) == CHAIN


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
