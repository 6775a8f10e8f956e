# SPDX-License-Identifier: Apache-2.0
"""Forward graph + Scheme -> training graph. Only what the scheme needs is ever built.

The backward part walks the nodes in reverse and stops at the first trained layer; each operator's file adds its own
gradient and update nodes. What must be kept for it (clamp masks, slices of activations) is computed right after the
forward node that makes it possible, so that the whole activation can be forgotten.
"""

from __future__ import annotations

from tinytrain.graph import Graph, Node, Phase, Role, verify
from tinytrain.ops import lookup
from tinytrain.ops.training import Constants, ExponentStart, TrainingBuilder
from tinytrain.passes.prune import prune
from tinytrain.train.head import with_trained_head
from tinytrain.train.objective import add_loss
from tinytrain.train.parameters import with_parameters
from tinytrain.train.scheme import Scheme


def training_graph(forward: Graph, scheme: Scheme, start: ExponentStart | None = None) -> Graph:
    """The graph of one training step.

    forward: an int8 graph from a front end
    start:   initial states of gradient exponents by gradient name, where the host has measured them
    """
    graph, orders = with_parameters(with_trained_head(forward, scheme), scheme)
    graph.attrs["channel_orders"] = orders
    rule = scheme.optimizer
    constants = Constants(rule.beta1, rule.beta2, rule.weight_decay, rule.clip)
    build = TrainingBuilder(graph, dict(start or {}), constants, gradient_dtype=scheme.gradients)
    forward_nodes = list(graph.nodes)
    gradient = add_loss(build, scheme.loss)
    _add_backward(build, forward_nodes, gradient)
    _add_applies(build)
    _insert_saves(graph, build.saves)
    return verify(prune(graph))


def _add_backward(build: TrainingBuilder, forward: list[Node], gradient: str) -> None:
    graph = build.graph
    depends = _depending_on_parameters(graph, forward)
    gradients: dict[str, list[str]] = {graph.outputs[0]: [gradient]}
    for node in reversed(forward):
        arrived = gradients.pop(node.outputs[0], [])
        if not arrived or node.outputs[0] not in depends:
            continue
        gy = _sum(build, node, arrived)
        activations = [name for name in node.inputs if graph[name].role is Role.ACTIVATION]
        wanted = any(name in depends for name in activations)
        results = lookup(node.op).gradient(build, node, gy, wanted)
        for name, result in zip(activations, results, strict=True):
            if result is not None and name in depends:
                gradients.setdefault(name, []).append(result)


def _depending_on_parameters(graph: Graph, nodes: list[Node]) -> set[str]:
    """Tensors whose value changes when a parameter does."""
    depends: set[str] = set()
    for node in nodes:
        if any(name in depends or graph[name].role is Role.PARAMETER for name in node.inputs):
            depends.update(node.outputs)
    return depends


def _sum(build: TrainingBuilder, node: Node, arrived: list[str]) -> str:
    """One gradient of a tensor that several nodes read."""
    total = arrived[0]
    for index, other in enumerate(arrived[1:]):
        total = build.gradient("gradient_add", node, f"gy.sum{index or ''}", [total, other])
    return total


def _add_applies(build: TrainingBuilder) -> None:
    """For accumulated parameters: the rows that end a batch."""
    graph = build.graph
    for node in [node for node in graph.nodes if node.phase is Phase.UPDATE]:
        if graph[node.attrs["parameter"]].accumulator:
            build.apply(node)


def _insert_saves(graph: Graph, saves: list[tuple[str, Node]]) -> None:
    """Put each SAVE node right behind the node that writes what it reads."""
    after: dict[str, list[Node]] = {}
    for source, node in saves:
        after.setdefault(source, []).append(node)
    ordered = [node for name in graph.inputs for node in after.pop(name, [])]
    for node in graph.nodes:
        ordered.append(node)
        for name in node.outputs:
            ordered += after.pop(name, [])
    assert not after, f"nothing writes {sorted(after)}"
    graph.nodes = ordered
