# SPDX-License-Identifier: Apache-2.0
"""What an operator's `gradient` builds with: gradient tensors, saved activations, masks and updates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytrain.graph import Exponent, Graph, Node, Phase, Role, Tensor
from tinytrain.ops.operator import add_node

HYPER = "hyper"  # uint32[4]: learning rate mantissa, its exponent (two's complement), seed, step
EXPONENT_START = -24  # of a gradient nobody has measured yet
ExponentStart = dict[str, tuple[int, int, int]]  # gradient name -> {exponent, peak mantissa, peak exponent}


@dataclass
class TrainingBuilder:
    """Appends SAVE, BACKWARD and UPDATE nodes to a training graph.

    graph:  the training graph under construction; its nodes so far are the forward part and the loss
    start:  initial gradient exponents by state name, where the host has measured them
    gradient_dtype: of the mantissas behind the classifier, "int16" or "int8"
    """

    graph: Graph
    start: ExponentStart = field(default_factory=dict)
    saves: list[tuple[str, Node]] = field(default_factory=list)
    gradient_dtype: str = "int16"

    def node(self, op: str, node: Node, suffix: str, inputs: list[str], attrs: dict[str, Any], phase: Phase) -> Node:
        """A new node beside the forward node `node`; its output tensors are yet to be added."""
        return Node(op, f"{node.name}.{suffix}", tuple(inputs), (), attrs, node.origin or node.name, phase)

    def gradient(
        self, op: str, node: Node, suffix: str, inputs: list[str], exponent: Exponent | None = None, **attrs: Any
    ) -> str:
        """Add a BACKWARD node with one output, a gradient under a delayed exponent of its own unless one is given."""
        name = self.graph.fresh(f"{node.name}.{suffix}")
        new = self.node(op, node, suffix, inputs, attrs, Phase.BACKWARD).but(name=name, outputs=(name,))
        add_node(self.graph, new, role=Role.GRADIENT, exponent=exponent or self.delayed_exponent(name))
        return name

    def delayed_exponent(self, gradient: str) -> Exponent:
        """New exponent state for a gradient tensor."""
        state = f"{gradient}.exponent"
        data = np.array(self.start.get(gradient, (EXPONENT_START, 0, 0)), np.int32)
        self.graph.add_tensor(Tensor(state, (3,), "int32", Role.OPTIMIZER, data=data))
        return Exponent(state)

    def saved(self, node: Node, x: str, channels: tuple[int, int], of: int) -> str:
        """`channels` (start, count) of the activation `x`, which has `of` channels, kept for the backward part."""
        start, count = channels
        if count == of:
            return x
        name = f"{x}[{start}:{start + count}]"
        if name not in self.graph.tensors:
            attrs = {"channels": channels, "of": of}
            self.save(x, Node("slice_channels", name, (x,), (name,), attrs, node.origin), Role.ACTIVATION)
        return name

    def masked(self, node: Node, gy: str) -> str:
        """`gy` with zeros where the clamp of `node`'s output is active: one bit per element is kept for it."""
        y = node.outputs[0]
        mask = f"{y}.mask"
        if mask not in self.graph.tensors:
            attrs = {"clamp": node.attrs["clamp"]}
            self.save(y, Node("clamp_mask", mask, (y,), (mask,), attrs, node.origin or node.name), Role.MASK)
        return self.gradient("mask_gradient", node, "gy", [gy, mask], exponent=self.graph[gy].exponent)

    def save(self, source: str, new: Node, role: Role) -> None:
        """Add a SAVE node: it runs as soon as `source` is written, and only while training."""
        add_node(self.graph, new.but(phase=Phase.SAVE), role=role, quantization=self.graph[source].quantization)
        self.saves.append((source, self.graph.nodes.pop()))

    def update(self, op: str, node: Node, suffix: str, parameter: str, inputs: list[str], **attrs: Any) -> None:
        """Add the UPDATE node of a trained parameter: it reads `inputs` and writes the parameter's next version.

        Where the parameter accumulates, the node adds to the accumulator instead, and an APPLY node follows later.
        """
        tensor = self.graph[parameter]
        targets = (
            [tensor.accumulator] if tensor.accumulator else [parameter, *([tensor.master] if tensor.master else [])]
        )
        attrs["parameter"] = parameter
        self._replace(op, f"{node.name}.{suffix}", node, [*inputs, HYPER], targets, Phase.UPDATE, attrs)

    def apply_accumulated(self, node: Node, suffix: str, parameter: str) -> None:
        """Add the APPLY node that moves a parameter's accumulator into it at the end of a batch."""
        tensor = self.graph[parameter]
        assert tensor.accumulator is not None
        accumulated = next(name for name, other in self.graph.tensors.items() if other.alias_of == tensor.accumulator)
        targets = [accumulated, parameter, *([tensor.master] if tensor.master else [])]
        self._replace(
            "apply_accumulated", f"{node.name}.{suffix}", node, [HYPER], targets, Phase.APPLY, {"parameter": parameter}
        )

    def _replace(
        self, op: str, name: str, node: Node, inputs: list[str], targets: list[str], phase: Phase, attrs: dict[str, Any]
    ) -> None:
        """A node that reads `targets` and writes their next versions into the same bytes."""
        outputs = []
        for target in targets:
            old = self.graph[target]
            new = old.but(name=self.graph.fresh(f"{self.graph.storage(target)}'"), alias_of=target, data=None)
            outputs.append(self.graph.add_tensor(new).name)
        stream = sum(other.phase in (Phase.UPDATE, Phase.APPLY) for other in self.graph.nodes)
        attrs = {**attrs, "stream": stream}
        self.graph.add_node(Node(op, name, (*inputs, *targets), tuple(outputs), attrs, node.origin or node.name, phase))
