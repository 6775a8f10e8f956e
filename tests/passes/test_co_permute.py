# SPDX-License-Identifier: Apache-2.0
"""Channels in another order: the same bits come out, and slices become contiguous."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.oracle import assert_same
from tests.training import machine_of
from tinytrain.graph import Graph, Phase, Role
from tinytrain.ops import evaluate, lookup
from tinytrain.passes.co_permute import Axis, channel_groups, channel_order, co_permute
from tinytrain.train import LayerUpdate, Scheme, Slice, published_scheme, trainable_layers, training_graph
from tinytrain.train.parameters import Cut, runs_of, with_parameters


def random_axes(rng: np.random.Generator, graph: Graph) -> dict[Axis, tuple[int, ...]]:
    """Channels wanted first, along some axes of some weights."""
    wanted = {}
    for node in trainable_layers(graph):
        axis = lookup(node.op).weight_axes[int(rng.integers(2))]
        count = graph[node.inputs[2]].shape[axis]
        if rng.integers(3) and count > 1:
            chosen = rng.permutation(count)[: int(rng.integers(1, count))]
            wanted[node.inputs[2], axis] = tuple(sorted(int(c) for c in chosen))
    return wanted


@pytest.mark.parametrize("seed", range(60))
def test_the_output_has_the_same_bits_before_and_after(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = nets.residual(seed) if seed % 3 == 0 else nets.random_net(rng)
    moved, orders = co_permute(graph, random_axes(rng, graph))
    for _ in range(3):
        sample = nets.random_sample(rng, graph)
        before, after = (evaluate(g, {"x": sample}) for g in (graph, moved))
        assert_same(after[graph.outputs[0]], before[graph.outputs[0]], graph.outputs[0])
        for (name, axis), order in orders.items():  # inner tensors are the same, in the new order
            if graph[name].role is Role.ACTIVATION:
                assert_same(after[name], np.take(before[name], order, axis), name)


def test_the_random_nets_do_move_channels() -> None:
    moved = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        graph = nets.residual(seed) if seed % 3 == 0 else nets.random_net(rng)
        orders = co_permute(graph, random_axes(rng, graph))[1]
        moved += any((order != np.arange(len(order))).any() for order in orders.values())
    assert moved > 30


@pytest.mark.parametrize("seed", range(20))
def test_training_a_slice_is_training_those_channels_wherever_they_lie(seed: int) -> None:
    """After some steps, the trained channels have moved and every other weight is what it was, in the old order."""
    rng = np.random.default_rng(seed)
    forward = nets.residual(seed)
    layers = {}
    for node in trainable_layers(forward):
        axis = str(rng.choice(["input", "output"]))
        along = lookup(node.op).weight_axes[axis == "input"]
        count = forward[node.inputs[2]].shape[along]
        layers[node.name] = LayerUpdate(
            False, Slice(axis, tuple(sorted(int(c) for c in rng.permutation(count)[: count // 2])))
        )
    graph = training_graph(forward, Scheme(layers))
    orders = graph.attrs["channel_orders"]
    machine = machine_of(graph, 3.0)
    for _ in range(4):
        machine.train_step(nets.random_sample(rng, forward), int(rng.integers(4)))
    moved = 0
    for node in graph.nodes:
        if node.phase is not Phase.FORWARD or node.name not in layers:
            continue
        old = forward[forward.node(node.name).inputs[2]]
        chosen = layers[node.name].weights
        along = lookup(node.op).weight_axes[chosen.axis == "input"]
        parts = [
            machine.view(name) if graph[name].role is Role.PARAMETER else graph[name].data for name in node.inputs[2:]
        ]
        weight = np.concatenate(parts, axis=along)
        for axis in range(weight.ndim):  # back into the model's order
            if (old.name, axis) in orders:
                weight = np.take(weight, np.argsort(orders[old.name, axis]), axis)
        changed = np.moveaxis(weight != old.data, along, 0).reshape(weight.shape[along], -1).any(axis=1)
        assert set(np.flatnonzero(changed)) <= set(chosen.channels), node.name
        moved += changed.any()
    assert moved > len(layers) / 2


def blocks(forward: Graph, scheme: Scheme) -> dict[str, list[bool]]:
    """For each layer with a slice: whether each block of its weight, in order, is trained."""
    graph, _ = with_parameters(forward, scheme)
    return {
        node.name: [graph[name].role is Role.PARAMETER for name in node.inputs[2:]]
        for node in graph.nodes
        if node.name in scheme.layers and scheme.layers[node.name].weights is not None
    }


def test_nested_slices_become_one_contiguous_block_each(residual: Graph) -> None:
    """Three layers read one residual stream; their slices are nested and become prefixes of one order."""
    nested = {"block0.expand": (1, 2, 4, 5), "block1.expand": (2, 5), "last": (1, 2, 5)}
    scheme = Scheme({name: LayerUpdate(weights=Slice("input", channels)) for name, channels in nested.items()})
    assert blocks(residual, scheme) == {name: [True, False] for name in nested}
    graph, _ = with_parameters(residual, scheme)
    for name, channels in nested.items():
        trained = graph[graph.node(name).inputs[2]]
        assert trained.shape[-1] == len(channels)
    # and the shared channels come in one order for all of them
    first = graph[graph.node("block1.expand").inputs[2]].data
    np.testing.assert_array_equal(
        np.sort(first.ravel()), np.sort(residual["block1.expand.w"].data[..., [2, 5]].ravel())
    )


def test_two_slices_that_cross_are_both_contiguous(residual: Graph) -> None:
    """What they share lies in the middle."""
    crossing = {"block0.expand": (0, 1, 2), "block1.expand": (1, 2, 3, 5)}
    scheme = Scheme({name: LayerUpdate(weights=Slice("input", channels)) for name, channels in crossing.items()})
    assert all(sum(runs) == 1 for runs in blocks(residual, scheme).values()), blocks(residual, scheme)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_channels_has_fewer_runs(seed: int) -> None:
    """Against all orders of few channels."""
    rng = np.random.default_rng(seed)
    slices = [set(rng.permutation(6)[: int(rng.integers(1, 6))].tolist()) for _ in range(int(rng.integers(1, 4)))]
    slices.sort(key=len, reverse=True)

    def runs(order: Sequence[int]) -> int:
        return sum(c in s and (i == 0 or order[i - 1] not in s) for s in slices for i, c in enumerate(order))

    assert runs(channel_order(6, slices).tolist()) == min(runs(order) for order in permutations(range(6)))


def test_many_crossing_slices_still_get_an_order() -> None:
    rng = np.random.default_rng(0)
    slices = [set(rng.permutation(64)[:32].tolist()) for _ in range(8)]
    assert sorted(channel_order(64, slices).tolist()) == list(range(64))


def test_slices_that_are_not_nested_become_a_short_list_of_runs(residual: Graph) -> None:
    crossing = {"block0.expand": (0, 1, 2), "block1.expand": (1, 2, 3, 4), "last": (0, 3, 5)}
    scheme = Scheme({name: LayerUpdate(weights=Slice("input", channels)) for name, channels in crossing.items()})
    found = blocks(residual, scheme)
    assert sum(map(sum, found.values())) == 4, found  # one of the three is in two runs
    graph, _ = with_parameters(residual, scheme)
    for name, channels in crossing.items():
        trained = [graph[block] for block in graph.node(name).inputs[2:] if graph[block].role is Role.PARAMETER]
        assert sum(block.shape[-1] for block in trained) == len(channels)


def test_producers_are_sliced_along_with_consumers(residual: Graph) -> None:
    """An output slice of a layer that writes the stream and an input slice of one that reads it share the order."""
    scheme = Scheme(
        {
            "block0.project": LayerUpdate(weights=Slice("output", (3, 5))),
            "last": LayerUpdate(weights=Slice("input", (0, 3, 5))),
        }
    )
    assert blocks(residual, scheme) == {"block0.project": [True, False], "last": [True, False]}


def test_a_depthwise_layer_is_ordered_with_its_neighbours(residual: Graph) -> None:
    layers = {
        "block0.expand": LayerUpdate(weights=Slice("output", (0, 7, 9))),
        "block0.depthwise": LayerUpdate(weights=Slice("input", (7, 9))),
        "block0.project": LayerUpdate(weights=Slice("input", (0, 3, 7, 9))),
    }
    assert blocks(residual, Scheme(layers)) == {name: [True, False] for name in layers}


def test_the_channels_of_inputs_and_outputs_stay(residual: Graph) -> None:
    """A camera delivers red first: a slice of the image's channels is a list of runs, not another order."""
    scheme = Scheme({"stem": LayerUpdate(weights=Slice("input", (0, 2)))})
    assert blocks(residual, scheme) == {"stem": [True, False, True]}
    graph, orders = co_permute(residual, {("stem.w", 3): (0, 2), ("head.w", 0): (1, 3)})
    assert not orders
    np.testing.assert_array_equal(graph["stem.w"].data, residual["stem.w"].data)


def test_channels_behind_a_flattened_image_stay() -> None:
    """A dense layer over a flattened image has no channel axis of its own."""
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((3, 3, 2)), 5)
    forward = net.done(net.dense("head", net.reshape("f", net.conv("d", y, 4)), 3))
    assert not co_permute(forward, {("d.w", 0): (1, 3)})[1]
    assert co_permute(forward, {("d.w", 3): (1, 3)})[1]


def test_axes_are_tied_through_every_elementwise_operator(residual: Graph) -> None:
    groups = channel_groups(residual)
    stream = groups["stem.y", 2]
    for axis in [
        ("stem.w", 0),
        ("stem.b", 0),
        ("block0.add.y", 2),
        ("block0.project.w", 0),
        ("block1.expand.w", 3),
        ("last.w", 3),
    ]:
        assert groups[axis] == stream
    assert groups["block0.expand.y", 2] == groups["block0.depthwise.w", 2] == groups["block0.project.w", 3] != stream


def test_runs_cover_every_channel_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(1, 20))
        chosen = tuple(sorted(int(c) for c in rng.permutation(count)[: int(rng.integers(1, count + 1))]))
        order = rng.permutation(count)
        for given in (None, order):
            runs = runs_of(Cut(Slice("input", chosen)), count, given)
            assert [run.start for run in runs] == [0, *np.cumsum([run.count for run in runs])[:-1]]
            assert sum(run.count for run in runs) == count
            assert all(a.trained != b.trained for a, b in pairwise(runs))
            positions = [p for run in runs if run.trained for p in range(run.start, run.start + run.count)]
            assert sorted((np.arange(count) if given is None else given)[positions].tolist()) == list(chosen)


def test_orders_are_permutations_and_the_given_graph_is_left_alone(residual: Graph) -> None:
    before = {name: t.data.copy() for name, t in residual.tensors.items() if t.data is not None}
    _, orders = co_permute(residual, {("block0.expand.w", 3): (1, 4), ("last.w", 0): (9, 2, 3)})
    assert orders
    for (name, axis), order in orders.items():
        assert sorted(order.tolist()) == list(range(residual[name].shape[axis]))
    for name, data in before.items():
        np.testing.assert_array_equal(residual[name].data, data)


# Trained runs of each sliced layer of a published scheme; 1 is one contiguous block. Two schemes slice one residual
# stream three times, with crossing sets that cannot all be contiguous.
PUBLISHED_RUNS = {
    "mcunet-5fps": {"49kb": [1, 1, 2], "74kb": [1], "99kb": [1, 1], "124kb": [1, 1, 1], "148kb": [1]},
    "mbv2-w0.35": {"49kb": [1, 1, 1, 2, 1], "73kb": [1, 1, 1, 1, 1, 1], "99kb": [1, 1], "123kb": [1], "138kb": []},
}


@pytest.mark.shared
@pytest.mark.parametrize("model", PUBLISHED_RUNS)
def test_published_slices_are_contiguous_or_a_few_runs(shared: Path, model: str) -> None:
    from tinytrain.frontends import load_model

    folder = shared / "data" / "models" / "mcu_models"
    forward = load_model(folder / f"{model}.onnx")
    collection = json.loads((folder / "sparse_update_schemes.json").read_text())["schemes"][model]
    found = {}
    for key, entry in collection.items():
        scheme = published_scheme(entry, forward)
        sliced = {name for name, update in scheme.layers.items() if update.weights and update.weights.axis != "all"}
        found[key] = [sum(runs) for name, runs in blocks(forward, scheme).items() if name in sliced]
    assert found == PUBLISHED_RUNS[model]
