# SPDX-License-Identifier: Apache-2.0
"""Put channels in an order that makes every trained slice one contiguous block, as far as the slices allow.

All producers and consumers of a stream of channels share one order, so the order of a group of tied axes is chosen
once. Nested slices become prefixes, two slices that cross share their common channels in the middle; where not all can
be contiguous, a slice keeps a short list of runs. The graph computes the same bits before and after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import permutations

import numpy as np

from tinytrain.graph import Graph, Quantization, Role
from tinytrain.ops import lookup

Axis = tuple[str, int]
MOST_PARTS = 7  # all orders of so many parts are tried, 5040 of them; three slices have no more


def co_permute(
    graph: Graph, wanted: Mapping[Axis, tuple[int, ...]], inner: Mapping[Axis, tuple[int, ...]] | None = None
) -> tuple[Graph, dict[Axis, np.ndarray]]:
    """Reorder channels so that the `wanted` channels of each (weight, axis) come first.

    inner: of some axes, a part of the wanted channels that shall be contiguous too
    Returns the graph with its constants reordered, and for each moved (tensor, axis) the old index of each new one.
    """
    groups, pinned = _groups(graph)
    orders: dict[Axis, np.ndarray] = {}
    for root, members in groups.items():
        sets = [sets[axis] for axis in members for sets in (wanted, inner or {}) if axis in sets]
        slices = sorted(map(set, sets), key=len, reverse=True)
        if not slices or root in pinned:
            continue
        order = channel_order(graph[root[0]].shape[root[1]], slices)
        orders |= dict.fromkeys(members, order)
    graph = graph.copy()
    for (name, axis), order in orders.items():
        tensor = graph[name]
        if tensor.role in (Role.CONSTANT, Role.PARAMETER):
            assert tensor.data is not None
            quantization = tensor.quantization
            if quantization is not None and quantization.axis == axis and quantization.scale.size > 1:
                quantization = Quantization(quantization.scale[order], quantization.zero_point, axis)
            data = np.ascontiguousarray(np.take(tensor.data, order, axis))
            graph.tensors[name] = tensor.but(data=data, quantization=quantization)
    return graph, orders


def channel_order(count: int, slices: Sequence[Collection[int]]) -> np.ndarray:
    """The order of `count` channels that cuts the slices into the fewest runs; larger slices are given first.

    Channels that are in the same slices form a part, and stay together.
    """
    parts: dict[tuple[bool, ...], list[int]] = {}
    for channel in range(count):
        parts.setdefault(tuple(channel not in chosen for chosen in slices), []).append(channel)
    best = sorted(parts)  # channels in more slices come first: nested slices are prefixes
    fewest = _runs(best)
    for order in permutations(best) if len(best) <= MOST_PARTS else ():
        if fewest == len(slices):
            break
        if (runs := _runs(order)) < fewest:
            best, fewest = list(order), runs
    return np.array([channel for part in best for channel in parts[part]])


def _runs(order: Sequence[tuple[bool, ...]]) -> int:
    """How many runs the slices have when their parts come in this order; a part says which slices it is outside of."""
    before = (True,) * len(order[0])
    runs = 0
    for part in order:
        runs += sum(was and not now for was, now in zip(before, part, strict=True))
        before = part
    return runs


def channel_groups(graph: Graph) -> dict[Axis, Axis]:
    """For each axis that is tied to others, the representative of its group."""
    return {axis: root for root, members in _groups(graph)[0].items() for axis in members}


def _groups(graph: Graph) -> tuple[dict[Axis, list[Axis]], set[Axis]]:
    """Axes tied to each other, by a representative, and the representatives whose order must not change."""
    parent: dict[Axis, Axis] = {}

    def find(axis: Axis) -> Axis:
        while parent.setdefault(axis, axis) != axis:
            axis = parent[axis]
        return axis

    fixed = [(name, axis) for name in [*graph.inputs, *graph.outputs] for axis in range(len(graph[name].shape))]
    for node in graph.nodes:
        tied: set[Axis] = set()
        for group in lookup(node.op).channel_axes(graph, node):
            tied.update(group)
            for axis in group[1:]:
                parent[find(axis)] = find(group[0])
        for name in (*node.inputs, *node.outputs):
            fixed += [(name, axis) for axis in range(len(graph[name].shape)) if (name, axis) not in tied]
    pinned = {find(axis) for axis in fixed}
    groups: dict[Axis, list[Axis]] = {}
    for axis in list(parent):
        groups.setdefault(find(axis), []).append(axis)
    return groups, pinned
