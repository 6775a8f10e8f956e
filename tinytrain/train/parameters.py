# SPDX-License-Identifier: Apache-2.0
"""Apply a Scheme to a forward graph: weights are cut into trained blocks (SRAM) and frozen ones (flash)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Node, Quantization, Role, Tensor
from tinytrain.ops import lookup
from tinytrain.passes.co_permute import Axis, co_permute
from tinytrain.train.optimizer import STATEFUL
from tinytrain.train.scheme import LayerUpdate, Scheme, Slice, channel_count


@dataclass(frozen=True)
class Run:
    """Neighbouring channels `start` to `start + count - 1`, all trained by one rule or all frozen.

    signs: whether they follow "sign" in place of the scheme's own rule
    """

    start: int
    count: int
    trained: bool
    signs: bool = False


def with_parameters(graph: Graph, scheme: Scheme) -> tuple[Graph, dict[Axis, np.ndarray]]:
    """The graph with trained tensors marked as parameters, masters and accumulators beside them.

    Also returns the channel orders the co-permute pass chose.
    """
    _refuse_shared(graph, scheme)
    scaling = "qas" if scheme.scaling == "qas" else _typical_scale(graph, scheme)
    cuts = {name: _cut_of(graph, graph.node(name), scheme) for name in scheme.layers}
    graph, orders = co_permute(graph, *_wanted_axes(graph, cuts))
    for index, node in enumerate(graph.nodes):
        update = scheme.layers.get(node.name)
        if update is None:
            continue
        graph.nodes[index] = node = node.with_attrs(scaling=scaling)
        if (cut := cuts[node.name]) is not None:
            graph.nodes[index] = node = _cut(graph, node, cut, orders)
        if update.bias:
            _mark_bias(graph, node)
    for name in [name for name, tensor in graph.tensors.items() if tensor.role is Role.PARAMETER]:
        _add_state(graph, name, scheme)
    graph.drop_unused_tensors()
    return graph, orders


def _typical_scale(graph: Graph, scheme: Scheme) -> float:
    """The geometric mean of the weight scales of the scheme's layers, over output channels."""
    scales = []
    for name in scheme.layers:
        weight = graph[graph.node(name).inputs[2]]
        axes = lookup(graph.node(name).op).weight_axes
        assert weight.quantization is not None and axes is not None
        scales.append(np.broadcast_to(weight.quantization.scale, (weight.shape[axes[0]],)))
    return float(np.exp(np.log(np.concatenate(scales)).mean())) if scales else 1.0


def _refuse_shared(graph: Graph, scheme: Scheme) -> None:
    """SchemeError where a trained weight or bias belongs to more than one layer."""
    readers = graph.consumers()
    for node in graph.nodes:
        update = scheme.layers.get(node.name, LayerUpdate())
        parts = (("bias", node.inputs[1:2], update.bias), ("weight", node.inputs[2:3], update.weights))
        for what, name, trained in parts:
            others = [other.name for tensor in name for other in readers[tensor] if other.name != node.name]
            if trained and others:
                raise SchemeError(
                    f"'{node.name}' cannot be trained: its {what} is shared with '{others[0]}'",
                    where=graph.name,
                    why="a shared parameter would need the gradients of all its layers summed",
                    fix=f"leave the {what} of '{node.name}' out of the scheme, or untie the layers before export",
                )


@dataclass(frozen=True)
class Cut:
    """How a trained weight is cut. stateful: the trained channels that follow the scheme's rule, None for all."""

    trained: Slice
    stateful: tuple[int, ...] | None = None


def _cut_of(graph: Graph, node: Node, scheme: Scheme) -> Cut | None:
    chosen = scheme.layers[node.name].weights
    rule = scheme.optimizer
    if chosen is None or rule.stateful == 1 or rule.kind not in STATEFUL:
        return None if chosen is None else Cut(chosen)
    if chosen.axis == "all":
        chosen = Slice("input", tuple(range(channel_count(graph, node, "input"))))
    weight = graph[node.inputs[2]].data
    assert weight is not None
    axis = _axis(node, chosen)
    norms = (weight.astype(np.float64) ** 2).sum(axis=tuple(i for i in range(weight.ndim) if i != axis))
    largest = sorted(chosen.channels, key=lambda channel: -norms[channel])
    count = max(1, round(rule.stateful * len(largest)))
    return Cut(chosen, tuple(sorted(largest[:count])))


def _wanted_axes(
    graph: Graph, cuts: Mapping[str, Cut | None]
) -> tuple[dict[Axis, tuple[int, ...]], dict[Axis, tuple[int, ...]]]:
    """The trained channels of each axis that is cut, and those among them that are stateful."""
    wanted, inner = {}, {}
    for name, cut in cuts.items():
        if cut is None or cut.trained.axis == "all":
            continue
        node = graph.node(name)
        axis = node.inputs[2], _axis(node, cut.trained)
        wanted[axis] = cut.trained.channels
        if cut.stateful is not None:
            inner[axis] = cut.stateful
    return wanted, inner


def _axis(node: Node, chosen: Slice) -> int:
    axes = lookup(node.op).weight_axes
    assert axes is not None
    return axes[chosen.axis == "input"]


def _cut(graph: Graph, node: Node, cut: Cut, orders: dict[Axis, np.ndarray]) -> Node:
    """Replace a layer's weight by its blocks."""
    chosen = cut.trained
    weight = graph[node.inputs[2]]
    axes = lookup(node.op).weight_axes
    assert axes is not None and weight.data is not None and weight.quantization is not None
    scales = np.broadcast_to(weight.quantization.scale, (weight.shape[axes[0]],))
    weight = weight.but(quantization=Quantization(scales, 0, axes[0]))
    if chosen.axis == "all":
        graph.tensors[weight.name] = weight.but(role=Role.PARAMETER)
        return node
    axis = _axis(node, chosen)
    names: list[str] = []
    blocks: list[tuple[int, ...]] = []
    for run in runs_of(cut, channel_count(graph, node, chosen.axis), orders.get((weight.name, axis))):
        names.append(_add_block(graph, weight, axis, axes[0], run))
        if axes[0] == axes[1]:
            blocks.append((run.start, run.count))
        elif axis == axes[1]:
            blocks.append((0, weight.shape[axes[0]], run.start, run.count))
        else:
            blocks.append((run.start, run.count, 0, weight.shape[axes[1]]))
    return node.but(inputs=(*node.inputs[:2], *names)).with_attrs(blocks=tuple(blocks))


def runs_of(cut: Cut, count: int, order: np.ndarray | None) -> list[Run]:
    """The trained and frozen runs of an axis after its channels were reordered."""
    channels = np.arange(count) if order is None else order
    trained = np.isin(channels, cut.trained.channels)
    signs = trained & ~np.isin(channels, cut.trained.channels if cut.stateful is None else cut.stateful)
    edges = [0, *(np.flatnonzero(np.diff(trained) | np.diff(signs)) + 1), count]
    return [Run(int(a), int(b - a), bool(trained[a]), bool(signs[a])) for a, b in itertools.pairwise(edges)]


def _add_block(graph: Graph, weight: Tensor, axis: int, output_axis: int, run: Run) -> str:
    name = f"{weight.name}[{run.start}:{run.start + run.count}]"
    channels = range(run.start, run.start + run.count)
    quantization = weight.quantization
    assert weight.data is not None and quantization is not None
    if axis == output_axis:
        quantization = Quantization(quantization.scale[list(channels)], 0, output_axis)
    data = np.ascontiguousarray(np.take(weight.data, channels, axis))
    role = Role.PARAMETER if run.trained else Role.CONSTANT
    rule = "sign" if run.signs else weight.rule
    graph.add_tensor(Tensor(name, data.shape, weight.dtype, role, quantization, data, rule=rule))
    return name


def _mark_bias(graph: Graph, node: Node) -> None:
    """A trained bias is in units of the input's scale times the weight's, per channel."""
    bias, x = graph[node.inputs[1]], graph[node.inputs[0]]
    scales = np.zeros(bias.shape[0])
    if "blocks" not in node.attrs:
        quantization = graph[node.inputs[2]].quantization
        assert quantization is not None
        scales[:] = quantization.scale
    for (start, count, *_), name in zip(node.attrs.get("blocks", ()), node.inputs[2:], strict=False):
        quantization = graph[name].quantization
        assert quantization is not None
        scales[start : start + count] = quantization.scale
    graph.tensors[bias.name] = bias.but(role=Role.PARAMETER, quantization=Quantization(x.scale * scales, 0, 0))


def _add_state(graph: Graph, name: str, scheme: Scheme) -> None:
    """The master and the accumulator of a parameter, as the scheme wants them."""
    tensor = graph[name]
    master, accumulator = tensor.master, None
    if scheme.update == "master" and tensor.dtype != "int16" and master is None:
        fraction = {"int8": "int8", "int32": "int16"}[tensor.dtype]
        master = graph.add_tensor(Tensor(f"{name}.master", tensor.shape, fraction, Role.MASTER)).name
    if scheme.accumulate:
        accumulator = graph.add_tensor(Tensor(f"{name}.sum", tensor.shape, "int32", Role.OPTIMIZER)).name
    truncates = scheme.update == "truncate"
    rule = tensor.rule if tensor.rule == "sign" else scheme.optimizer.kind
    graph.tensors[name] = tensor.but(master=master, accumulator=accumulator, truncates=truncates, rule=rule)
