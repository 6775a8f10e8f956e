# SPDX-License-Identifier: Apache-2.0
"""Choosing a scheme: greedy by importance per byte, every candidate accounted for exactly.

A searcher is any callable (Problem) -> Scheme; `greedy` is one, a wider search takes its place without other changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import lookup
from tinytrain.passes.co_permute import channel_groups
from tinytrain.planner.importance import Importance
from tinytrain.train import LayerUpdate, Scheme, Slice, trainable_layers

SHARES = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Problem:
    """forward: the model; start: the least scheme (the classifier alone); fits: whether a scheme keeps the budgets."""

    forward: Graph
    start: Scheme
    importance: Mapping[str, Importance]
    fits: Callable[[Scheme], bool]
    progress: Callable[[str, int, int], None] | None = None


@dataclass(frozen=True)
class Step:
    """One candidate change: this layer trained like this, what it adds in importance, what it is likely to cost.

    bytes: of SRAM; macs: of a training step, the gradients on the way from the layers already trained included
    """

    layer: str
    update: LayerUpdate
    gain: float
    bytes: float
    macs: float


def greedy(problem: Problem) -> Scheme:
    """Take the step of largest importance per cost that still fits, until none does.

    Cost is relative: bytes to those of all weights, MACs to those of an inference, one as dear as
    the other. Counting bytes alone would send gradients through the whole network for a few cheap early channels.
    """
    scheme = problem.start
    layers = trainable_layers(problem.forward)
    ranking = channel_ranking(problem.forward, layers, problem.importance)
    reach = backward_reach(problem.forward, layers)
    parameters = sum(problem.forward[node.inputs[2]].nbytes for node in layers)
    inference = max(reach.values(), default=0.0) or 1.0  # a single layer sends nothing back
    refused: set[tuple[str, LayerUpdate]] = set()
    taken = 0
    while True:
        steps = [step for node in layers for step in _steps(problem, node, scheme, ranking[node.name], reach)]
        steps = [step for step in steps if step.gain > 0 and (step.layer, step.update) not in refused]
        if not steps:
            return scheme
        best = max(steps, key=lambda step: step.gain / (step.bytes / parameters + step.macs / inference))
        candidate = scheme.but(layers={**scheme.layers, best.layer: best.update})
        if problem.fits(candidate):
            scheme = candidate
        else:
            refused.add((best.layer, best.update))
        taken += 1
        if problem.progress:
            problem.progress("search", taken, 0)


def channel_ranking(forward: Graph, layers: list[Node], importance: Mapping[str, Importance]) -> dict[str, np.ndarray]:
    """For each layer its input channels, most important first.

    Layers that read one stream of channels share one ranking, so that their slices are nested and co-permute can make
    each of them contiguous.
    """
    groups = channel_groups(forward)
    totals: dict[tuple[str, int], np.ndarray] = {}
    keys = {}
    for node in layers:
        axes = lookup(node.op).weight_axes
        assert axes is not None
        keys[node.name] = key = groups.get((node.inputs[2], axes[1]), (node.inputs[2], axes[1]))
        worth = importance[node.name].channels
        # layers count equally: what matters is which channels, not which layer is larger
        share = worth / worth.sum() if worth.sum() > 0 else worth
        totals[key] = totals.get(key, np.zeros(len(worth))) + share
    return {name: np.argsort(-totals[key], kind="stable") for name, key in keys.items()}


def backward_reach(forward: Graph, layers: list[Node]) -> dict[str, float]:
    """MACs of the input gradients that bring a gradient from the classifier to each layer's output."""
    reach, total = {}, 0.0
    for node in reversed(layers):
        reach[node.name] = total
        total += lookup(node.op).cost(forward, node).macs
    return reach


def _steps(
    problem: Problem, node: Node, scheme: Scheme, ranking: np.ndarray, reach: Mapping[str, float]
) -> Iterator[Step]:
    """The next bias or the next larger slices of one layer."""
    farthest = max((reach[name] for name in scheme.layers), default=0.0)
    way = max(0.0, reach[node.name] - farthest)
    macs = lookup(node.op).cost(problem.forward, node).macs
    forward, worth = problem.forward, problem.importance[node.name]
    now = scheme.layers.get(node.name, LayerUpdate())
    weight, x, y = forward[node.inputs[2]], forward[node.inputs[0]], forward[node.outputs[0]]
    masters = 2 if scheme.update == "master" else 1
    mask = 0 if scheme.layers.get(node.name) else y.size / 8
    if not now.bias:
        yield Step(node.name, replace(now, bias=True), worth.bias, 4 * y.shape[-1] * 1.5 + mask, way)
    trained = _count(now.weights, len(ranking))
    before = worth.channels[ranking[:trained]].sum()
    for share in SHARES:
        count = int(len(ranking) * share)
        if count <= trained:
            continue
        chosen = (
            Slice("all") if count == len(ranking) else Slice("input", tuple(sorted(int(c) for c in ranking[:count])))
        )
        added = (count - trained) / len(ranking)
        gain = float(worth.channels[ranking[:count]].sum() - before)
        cost = added * (weight.size * masters + x.size) + mask
        yield Step(node.name, replace(now, weights=chosen), gain, cost, way + added * macs)


def _count(chosen: Slice | None, channels: int) -> int:
    if chosen is None:
        return 0
    return channels if chosen.axis == "all" else len(chosen.channels)
