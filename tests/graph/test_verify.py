# SPDX-License-Identifier: Apache-2.0
"""The verifier refuses every broken rule and names the node or tensor that breaks it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinytrain.errors import GraphError
from tinytrain.graph import Exponent, Graph, Node, Phase, Quantization, Role, Tensor, verify


def small() -> Graph:
    """x -> double -> y; x, half, y -> sum -> z; `w` is a parameter that `step` updates."""
    graph = Graph("small", inputs=["x"], outputs=["z"])
    for name in ("x", "y", "z"):
        graph.add_tensor(Tensor(name, (2,), "int8"))
    graph.add_tensor(Tensor("half", (2,), "int8", Role.CONSTANT, data=np.ones(2, np.int8)))
    graph.add_tensor(Tensor("w", (2,), "int8", Role.PARAMETER, data=np.ones(2, np.int8)))
    graph.add_tensor(Tensor("w'", (2,), "int8", Role.PARAMETER, alias_of="w"))
    graph.add_node(Node("scale", "double", ("x", "w"), ("y",)))
    graph.add_node(Node("add", "sum", ("y", "half"), ("z",)))
    graph.add_node(Node("update", "step", ("z", "w"), ("w'",), phase=Phase.UPDATE))
    return graph


def put(graph: Graph, name: str, **changes: object) -> None:
    graph.tensors[name] = graph[name].but(**changes)


def node(graph: Graph, index: int, **changes: object) -> None:
    graph.nodes[index] = graph.nodes[index].but(**changes)


BROKEN: dict[str, tuple[Callable[[Graph], object], str]] = {
    "two nodes of one name": (lambda g: node(g, 1, name="double"), "two nodes are called 'double'"),
    "undefined input": (lambda g: node(g, 0, inputs=("q",)), "'double' reads the undefined tensor 'q'"),
    "undefined output": (lambda g: node(g, 0, outputs=("q",)), "'double' writes the undefined tensor 'q'"),
    "read before written": (lambda g: g.nodes.reverse(), "'step' reads 'z' before it is written"),
    "written twice": (lambda g: node(g, 1, outputs=("y",)), "'y' is written twice, again by 'sum'"),
    "input written": (lambda g: node(g, 0, outputs=("x",)), "'x' is written twice, again by 'double'"),
    "constant written": (lambda g: node(g, 1, outputs=("half",)), "'sum' writes the constant 'half'"),
    "output never written": (lambda g: g.outputs.append("w"), "output 'w' is never written"),
    "filed under another name": (lambda g: g.tensors.update(v=g["y"]), "'y' is filed under 'v'"),
    "extent of zero": (lambda g: put(g, "y", shape=(2, 0)), r"'y' has the shape \[2, 0\]"),
    "extent that is no int": (lambda g: put(g, "y", shape=(2.0,)), "'y' has the shape"),
    "constant without value": (lambda g: put(g, "half", data=None), "constant 'half' has no value"),
    "value of another shape": (lambda g: put(g, "half", data=np.ones(3, np.int8)), r"'half' is int8\[3\].*int8\[2\]"),
    "value of another dtype": (lambda g: put(g, "w", data=np.ones(2)), r"'w' is float64\[2\]"),
    "alias of nothing": (lambda g: put(g, "y", alias_of="q"), "'y' takes over the bytes of the undefined 'q'"),
    "exponent of nothing": (lambda g: put(g, "y", exponent=Exponent("q")), "exponent of 'y' is the undefined 'q'"),
    "old version read": (
        lambda g: g.add_node(Node("scale", "late", ("x", "w"), ("v",))) and g.add_tensor(Tensor("v", (2,), "int8")),
        "'late' reads 'w' after 'step' updated it",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_refused_by_name(rule: str) -> None:
    breaks, message = BROKEN[rule]
    graph = small()
    breaks(graph)
    with pytest.raises(GraphError, match=message) as caught:
        verify(graph)
    assert caught.value.where == "small"


def test_a_graph_that_keeps_the_rules_is_returned() -> None:
    graph = small()
    assert verify(graph) is graph


def test_a_tensor_is_defined_once() -> None:
    with pytest.raises(GraphError, match="'x' is defined twice"):
        small().add_tensor(Tensor("x", (1,), "int8"))


def test_a_missing_node_is_named() -> None:
    with pytest.raises(GraphError, match="no node 'q' in graph 'small'"):
        small().node("q")


def test_a_bit_tensor_takes_a_bit_per_element() -> None:
    assert [Tensor("m", (count,), "bit", Role.MASK).nbytes for count in (1, 8, 9, 64)] == [1, 1, 2, 8]
    assert Tensor("g", (3, 5), "int16").nbytes == 30


def test_quantizations_compare_by_value() -> None:
    assert Quantization.per_tensor(0.5, 3) == Quantization(np.array([0.5]), 3)
    assert Quantization.per_tensor(0.5, 3) != Quantization.per_tensor(0.5, 4)
    assert Quantization(np.array([0.5, 1.0]), 0, 0) != Quantization(np.array([0.5, 1.0]), 0, 1)


def test_unused_tensors_are_dropped_and_what_a_used_one_names_is_kept() -> None:
    graph = small()
    graph.add_tensor(Tensor("lost", (1,), "int8"))
    graph.add_tensor(Tensor("w.master", (2,), "int8", Role.MASTER))
    graph.add_tensor(Tensor("y.exponent", (3,), "int32", Role.OPTIMIZER))
    put(graph, "w", master="w.master")
    put(graph, "y", exponent=Exponent("y.exponent"))
    graph.drop_unused_tensors()
    assert "lost" not in graph.tensors
    assert {"w.master", "y.exponent", "half", "w"} <= set(graph.tensors)


def test_a_copy_changes_on_its_own() -> None:
    graph = small()
    copy = graph.copy()
    copy.nodes.pop()
    copy.add_tensor(Tensor("new", (1,), "int8"))
    assert len(graph.nodes) == 3 and "new" not in graph.tensors


def test_storage_follows_versions_to_the_first() -> None:
    graph = small()
    graph.add_tensor(Tensor("w''", (2,), "int8", Role.PARAMETER, alias_of="w'"))
    assert graph.storage("w''") == "w" and graph.storage("y") == "y"


def test_fresh_names_count_up() -> None:
    graph = small()
    assert [graph.fresh("q"), graph.fresh("x")] == ["q", "x.2"]
    graph.add_tensor(Tensor("x.2", (1,), "int8"))
    assert graph.fresh("x") == "x.3"
