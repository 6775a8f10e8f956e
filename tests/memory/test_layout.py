# SPDX-License-Identifier: Apache-2.0
"""The arena layout: pieces alive together never share a byte, and the lower bound is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import nets
from tinytrain.graph import Graph
from tinytrain.memory import ALIGNMENT, Layout, Lifetime, lay_out
from tinytrain.memory.layout import _best_placement, _grow, lower_bound
from tinytrain.memory.lifetimes import scratch_name
from tinytrain.ops import lookup
from tinytrain.train import Scheme, all_weights, training_graph

NODES = 24


@st.composite
def pieces_strategy(draw: st.DrawFn) -> list[Lifetime]:
    spans = st.tuples(st.integers(0, NODES - 1), st.integers(0, 9), st.integers(1, 600))
    return [
        Lifetime(f"t{index}", size, first, min(first + length, NODES - 1))
        for index, (first, length, size) in enumerate(draw(st.lists(spans, max_size=40)))
    ]


@given(pieces_strategy())
@settings(max_examples=200, deadline=None)
def test_pieces_alive_together_never_overlap(pieces: list[Lifetime]) -> None:
    bound, _ = lower_bound(pieces, NODES)
    placed = _best_placement(pieces, bound)
    owner: dict[tuple[int, int], str] = {}
    for piece in pieces:
        assert placed[piece.name] >= 0 and placed[piece.name] % ALIGNMENT == 0
        for node in range(piece.first, piece.last + 1):
            for word in range(placed[piece.name], placed[piece.name] + piece.size, ALIGNMENT):
                other = owner.setdefault((node, word), piece.name)
                assert other == piece.name, f"{piece.name} and {other} share byte {word} at node {node}"
    assert max((placed[piece.name] + piece.size for piece in pieces), default=0) >= bound


@given(pieces_strategy())
@settings(max_examples=200, deadline=None)
def test_the_lower_bound_is_the_largest_sum_of_live_bytes(pieces: list[Lifetime]) -> None:
    sums = [sum(piece.size for piece in pieces if piece.first <= node <= piece.last) for node in range(NODES)]
    assert lower_bound(pieces, NODES) == (max(sums), sums.index(max(sums)))


def test_pieces_that_all_live_at_once_take_their_sum_and_no_more() -> None:
    pieces = [Lifetime(f"t{index}", 4 * (index + 1), index, 9) for index in range(8)]
    placed = _best_placement(pieces, lower_bound(pieces, 10)[0])
    assert max(placed[piece.name] + piece.size for piece in pieces) == 4 * 36


def test_pieces_that_never_meet_share_the_same_bytes() -> None:
    pieces = [Lifetime(f"t{index}", 40, 2 * index, 2 * index + 1) for index in range(8)]
    assert set(_best_placement(pieces, 40).values()) == {0}


def test_a_gap_between_two_pieces_is_used() -> None:
    """a and c live on both sides of b; d fits where b was."""
    pieces = [Lifetime("a", 8, 0, 9), Lifetime("b", 8, 0, 4), Lifetime("c", 8, 0, 9), Lifetime("d", 8, 5, 9)]
    placed = _best_placement(pieces, 24)
    assert placed["b"] == placed["d"]


def assert_no_value_is_overwritten(graph: Graph, layout: Layout) -> None:
    """Plays the graph byte by byte: what a node reads is what was written last into every byte of it."""
    holds = np.full(layout.arena, "", dtype=object)
    content: dict[str, str] = {}  # tensor -> the value its bytes hold: its own, or of a view the viewed one's

    def span(name: str, size: int) -> slice:
        start = layout.offsets[name]
        assert start + size <= layout.arena, f"'{name}' ends past the arena"
        return slice(start, start + size)

    for name in graph.inputs:
        holds[span(name, graph[name].nbytes)] = content[name] = name
    for node in graph.nodes:
        op = lookup(node.op)
        ins = [tensor for tensor in graph.ins(node) if tensor.role.in_arena]
        outs = [tensor for tensor in graph.outs(node) if tensor.role.in_arena]
        for tensor in ins:
            found = set(holds[span(tensor.name, tensor.nbytes)])
            assert found == {content[tensor.name]}, f"'{node.name}' reads '{tensor.name}', whose bytes hold {found}"
        if op.view:
            content[outs[0].name] = content[ins[0].name]
            assert layout.offsets[outs[0].name] == layout.offsets[ins[0].name]
            continue
        busy = [span(tensor.name, tensor.nbytes) for tensor in ins]
        allowed = {(node.inputs[source], node.outputs[target]) for source, target in op.in_place}
        for tensor in outs:
            own = span(tensor.name, tensor.nbytes)
            for other in ins:
                bytes_ = span(other.name, other.nbytes)
                if own.start < bytes_.stop and bytes_.start < own.stop:
                    assert (other.name, tensor.name) in allowed and own == bytes_, (
                        f"'{node.name}' writes over its input"
                    )
            holds[own] = content[tensor.name] = tensor.name
            busy.append(own)
        if scratch := layout.sizes.get(scratch_name(node), 0):
            assert scratch >= op.scratch(graph, node)
            own = span(scratch_name(node), scratch)
            clash = [other for other in busy if own.start < other.stop and other.start < own.stop]
            assert not clash, f"the scratch of '{node.name}' lies over its operands"
            holds[own] = f"scratch of {node.name}"
    for name in graph.outputs:
        assert set(holds[span(name, graph[name].nbytes)]) == {content[name]}, f"output '{name}' is gone at the end"


@pytest.mark.parametrize("seed", range(60))
def test_no_value_is_overwritten_while_it_is_needed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    graph = training_graph(forward, nets.random_scheme(rng, forward))
    layout = lay_out(graph)
    assert layout.lower_bound <= layout.arena
    assert_no_value_is_overwritten(graph, layout)


def test_the_player_sees_a_layout_that_is_wrong(residual: Graph) -> None:
    """A layout with one piece moved onto another one that is alive is noticed."""
    graph = training_graph(residual, all_weights(residual))
    layout = lay_out(graph)
    noticed = 0
    for piece in layout.pieces:
        others = [other for other in layout.pieces if other.first < piece.first < other.last]
        for other in others[:1]:
            offsets = {**layout.offsets, piece.name: layout.offsets[other.name]}
            if offsets[piece.name] + piece.size > layout.arena:
                continue
            moved = Layout(offsets, layout.arena, layout.lower_bound, layout.peak_node, layout.pieces)
            with pytest.raises(AssertionError):
                assert_no_value_is_overwritten(graph, moved)
            noticed += 1
    assert noticed > 5


def test_a_layout_is_deterministic(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual))
    assert lay_out(graph) == lay_out(graph)


def test_small_nets_reach_their_lower_bound(chain: Graph, residual: Graph) -> None:
    """Not a law of packing, but true of these: a layout that got worse would show here."""
    for forward in (chain, residual):
        for scheme in (Scheme(), all_weights(forward)):
            layout = lay_out(training_graph(forward, scheme))
            assert layout.arena == layout.lower_bound


def test_the_peak_node_holds_as_many_bytes_as_the_bound(residual: Graph) -> None:
    layout = lay_out(training_graph(residual, all_weights(residual)))
    alive = sum(piece.size for piece in layout.pieces if piece.first <= layout.peak_node <= piece.last)
    assert layout.lower_bound == min(alive, layout.arena)


def test_the_last_piece_is_not_padded() -> None:
    """An odd arena: what lies on top need not be a whole number of words."""
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((1, 1, 3)), 5)
    graph = net.done(y)
    pieces = [4, 8, scratch := lookup("conv2d").scratch(graph, graph.nodes[0])]
    layout = lay_out(graph)
    assert layout.arena in (4 + scratch + 5, 8 + scratch + 3, sum(pieces))


def largest_gap(pieces: list[Lifetime], placed: dict[str, int], node: int, arena: int) -> int:
    """Bytes of the largest run of bytes that belong to nothing alive at a node, byte by byte."""
    taken = np.zeros(arena + 1, bool)
    taken[arena] = True
    for piece in pieces:
        if piece.first <= node <= piece.last:
            taken[placed[piece.name] : placed[piece.name] + piece.size] = True
    return int(np.diff(np.flatnonzero(np.concatenate(([True], taken)))).max()) - 1


@given(pieces_strategy(), st.integers(0, NODES - 1), st.integers(0, 80), st.integers(1, 3000))
@example([Lifetime("t0", 2, 0, 0)], 1, 1, 1)  # the gap is no whole word, but larger than the scratch
@settings(max_examples=200, deadline=None)
def test_a_scratch_grows_into_the_largest_gap_and_nothing_else_moves(
    others: list[Lifetime], node: int, least: int, wanted: int
) -> None:
    scratch = Lifetime("s", least, node, node)
    pieces = [*others, scratch]
    placed = dict(_best_placement(pieces, lower_bound(pieces, NODES)[0]))
    before, arena = dict(placed), max(placed[piece.name] + piece.nbytes for piece in pieces)
    gap = largest_gap(others, placed, node, arena)
    _grow("s", max(wanted, least), pieces, placed, arena)
    grown = pieces[-1]
    assert {name: offset for name, offset in placed.items() if name != "s"} == {p.name: before[p.name] for p in others}
    assert pieces[:-1] == others and (grown.name, grown.first, grown.last) == ("s", node, node)
    assert grown.nbytes == max(least, min(max(wanted, least), gap // ALIGNMENT * ALIGNMENT))
    assert placed["s"] % ALIGNMENT == 0 and placed["s"] + grown.nbytes <= arena
    for other in others:
        if other.overlaps(grown) and grown.nbytes:
            start, end = placed[other.name], placed[other.name] + other.nbytes
            assert end <= placed["s"] or placed["s"] + grown.nbytes <= start, f"it lies over {other.name}"


@pytest.mark.parametrize("seed", range(20))
def test_growing_scratch_never_raises_the_arena(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    graph = training_graph(forward, nets.random_scheme(rng, forward))
    grown = lay_out(graph)
    for node in graph.nodes:
        op = lookup(node.op)
        given = grown.sizes.get(scratch_name(node), 0)
        assert op.scratch(graph, node) <= given <= op.scratch_wanted(graph, node), node.name
        if given:
            assert grown.offsets[scratch_name(node)] + given <= grown.arena
    asked = {node.name: lookup(node.op).scratch(graph, node) for node in graph.nodes}
    for op in {type(lookup(node.op)) for node in graph.nodes}:
        for method in ("scratch", "scratch_wanted"):
            monkeypatch.setattr(op, method, lambda self, graph, node: asked[node.name])
    least = lay_out(graph)
    assert (grown.arena, grown.lower_bound, grown.peak_node) == (least.arena, least.lower_bound, least.peak_node)


def test_a_scratch_gets_all_it_wants_where_the_arena_is_empty_enough() -> None:
    """Only the node that the arena is made for leaves its kernel little room."""
    net = nets.Net(np.random.default_rng(0))
    wide = net.conv("wide", net.input((16, 16, 4)), 32)
    graph = net.done(net.conv("narrow", net.conv("middle", wide, 4, stride=4), 4))
    layout, conv = lay_out(graph), lookup("conv2d")
    wanted = {node.name: conv.scratch_wanted(graph, node) for node in graph.nodes}
    given = {node.name: layout.sizes[scratch_name(node)] for node in graph.nodes}
    assert given["narrow"] == wanted["narrow"] and given["wide"] < wanted["wide"]
