# SPDX-License-Identifier: Apache-2.0
"""When a result takes over the bytes of an operand, and when it must not."""

from __future__ import annotations

import numpy as np

from tests.nets import FULL, Net
from tinytrain.graph import Graph, Node, Quantization, verify
from tinytrain.memory import lay_out, lifetimes
from tinytrain.memory.lifetimes import scratch_name
from tinytrain.ops import add_node, lookup
from tinytrain.train import all_weights, training_graph


def net() -> Net:
    made = Net(np.random.default_rng(0))
    made.input((2, 2, 4))
    return made


def piece(graph: Graph, name: str) -> str:
    return lifetimes(graph)[1][name]


def test_a_result_takes_over_an_operand_nobody_needs_afterwards() -> None:
    made = net()
    y = made.relu("r", "x")
    assert piece(made.done(y), y) == "x"


def test_a_result_does_not_take_over_an_operand_read_later() -> None:
    made = net()
    y = made.relu("r", "x")
    graph = made.done(made.add("a", "x", y))
    assert piece(graph, y) == y
    assert piece(graph, "a.y") in ("x", y)  # both end here


def test_a_result_does_not_take_over_an_operand_given_twice() -> None:
    made = net()
    y = made.add("a", "x", "x")
    assert piece(made.done(y), y) == y


def test_a_result_does_not_take_over_a_graph_output() -> None:
    made = net()
    first = made.conv("c", "x", 4)
    second = made.relu("r", first)
    made.graph.outputs = [first, second]
    assert piece(verify(made.graph), second) == second


def test_a_result_does_not_take_over_a_view_that_is_a_graph_output() -> None:
    made = net()
    first = made.conv("c", "x", 4)
    view = made.reshape("v", first)
    last = made.relu("r", first)
    made.graph.outputs = [view, last]
    assert piece(verify(made.graph), view) == first
    assert piece(made.graph, last) == last


def test_an_operand_of_another_size_is_not_taken_over() -> None:
    """A broadcast element is smaller than the result."""
    made = net()
    small = made.conv("c", made.mean("m", "x", keepdims=True), 1)
    node = Node("add", "a", ("x", small), ("a.y",), {"clamp": FULL}, "a")
    add_node(made.graph, node, quantization=Quantization.per_tensor(0.05))
    graph = made.done("a.y")
    assert piece(graph, "a.y") == "x"
    assert piece(graph, small) == small


def test_an_operator_that_does_not_work_in_place_gets_its_own_bytes() -> None:
    made = net()
    y = made.conv("c", "x", 4)
    assert not lookup("conv2d").in_place
    assert piece(made.done(y), y) == y


def test_a_view_shares_its_operands_bytes_and_keeps_them_alive() -> None:
    made = net()
    view = made.reshape("v", "x")
    other = made.conv("c", "x", 4)
    y = made.dense("d", view, 3)
    made.graph.outputs = [y, other]
    pieces, piece_of = lifetimes(verify(made.graph))
    assert piece_of[view] == "x"
    assert next(p for p in pieces if p.name == "x").last == 2  # the dense layer, which reads the view


def test_bytes_seen_through_a_view_are_not_taken_over_while_the_view_is_needed() -> None:
    made = net()
    view = made.reshape("v", "x")
    y = made.relu("r", "x")
    made.graph.outputs = [y, made.dense("d", view, 3)]
    assert piece(verify(made.graph), y) == y


def test_scratch_lives_for_its_node_alone(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual))
    pieces = {p.name: p for p in lifetimes(graph)[0]}
    found = 0
    for index, node in enumerate(graph.nodes):
        if size := lookup(node.op).scratch(graph, node):
            scratch = pieces[scratch_name(node)]
            assert (scratch.first, scratch.last) == (index, index) and size <= scratch.size < size + 4
            found += 1
    assert found > 3


def test_persistent_tensors_and_constants_take_no_arena(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual))
    offsets = lay_out(graph).offsets
    for tensor in graph.tensors.values():
        assert (tensor.name in offsets) == tensor.role.in_arena, tensor.name


def test_an_input_is_there_before_the_first_node() -> None:
    made = net()
    early = made.conv("c", "x", 4)
    made.graph.nodes.reverse()
    y = made.add("a", early, "x")
    pieces, _ = lifetimes(made.done(y))
    assert next(p for p in pieces if p.name == "x").first == 0


def test_the_gradient_of_a_residual_add_is_kept_for_the_second_branch(residual: Graph) -> None:
    """Both branches get the same gradient tensor: the mask of the first one must not work in place on it."""
    graph = training_graph(residual, all_weights(residual))
    shared = [name for name, readers in graph.consumers().items() if "gy" in name and len(readers) > 1]
    _, piece_of = lifetimes(graph)
    found = 0
    for name in shared:
        first, *later = graph.consumers()[name]
        if first.op == "mask_gradient" and any(node.inputs[0] == name for node in later):
            assert piece_of[first.outputs[0]] != piece_of[name]
            found += 1
    assert found
