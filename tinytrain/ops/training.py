# SPDX-License-Identifier: Apache-2.0
"""What an operator's `gradient` builds with: gradient tensors, saved activations, masks and updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytrain.graph import Exponent, Graph, Node, Phase, Role, Tensor
from tinytrain.ops.operator import add_node, lookup
from tinytrain.ops.updates import HYPER, accumulated_exponent, total_shift

EXPONENT_START = -24  # of a gradient nobody has measured yet
ExponentStart = dict[str, tuple[int, int, int]]  # gradient name -> {exponent, peak mantissa, peak exponent}


@dataclass(frozen=True)
class Constants:
    """Of update rules, as train/optimizer.py explains them."""

    beta1: float = 0.0
    beta2: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None


@dataclass
class TrainingBuilder:
    """Appends SAVE, BACKWARD and UPDATE nodes to a training graph.

    graph:  the training graph under construction; its nodes so far are the forward part and the loss
    start:  initial gradient exponents by state name, where the host has measured them
    gradient_dtype: of the mantissas behind the classifier, "int16" or "int8"
    constants: of the parameters' update rules
    """

    graph: Graph
    start: ExponentStart = field(default_factory=dict)
    constants: Constants = field(default_factory=Constants)
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
        Where its rule is not "sgd", the node writes the gradient, and the rule's own node follows.
        """
        tensor = self.graph[parameter]
        attrs["parameter"] = parameter
        name = f"{node.name}.{suffix}"
        clip = self._clip(parameter)
        attrs |= {"clip": self.constants.clip} if clip else {}
        if tensor.accumulator:
            self._replace(op, name, node, [*inputs, HYPER], [tensor.accumulator, *clip], Phase.UPDATE, attrs)
        elif tensor.rule == "sgd":
            attrs |= self._decay(tensor)
            self._replace(op, name, node, [*inputs, HYPER], [*_targets(tensor), *clip], Phase.UPDATE, attrs)
        else:
            gy = self.graph[inputs[-1]]
            gradient = Tensor(self.graph.fresh(f"{parameter}.gradient"), tensor.shape, "int32", Role.GRADIENT)
            made = [self.graph.add_tensor(gradient)]
            self._replace(op, name, node, [*inputs, HYPER], clip, Phase.UPDATE, attrs, made)
            assert gy.exponent is not None
            exponent = gy.exponent.shifted(total_shift(self.graph, self.graph.nodes[-1]))
            self.graph.tensors[gradient.name] = gradient.but(exponent=exponent)
            self._step(node, name, gradient.name, Phase.UPDATE, attrs)

    def apply(self, update: Node) -> None:
        """Add the APPLY node that ends a batch for an UPDATE node: its parameter's accumulator moves on."""
        parameter = update.attrs["parameter"]
        tensor = self.graph[parameter]
        accumulated = update.outputs[0]
        if tensor.rule == "sgd":
            attrs = {"parameter": parameter, **self._decay(tensor)}
            targets = [accumulated, *_targets(tensor)]
            self._replace("apply_accumulated", f"{update.name}.apply", update, [HYPER], targets, Phase.APPLY, attrs)
            return
        exponent = Exponent(None, accumulated_exponent(update.attrs["x_scale"]))
        self.graph.tensors[accumulated] = self.graph[accumulated].but(exponent=exponent)
        self._step(update, update.name, accumulated, Phase.APPLY, update.attrs)

    def _step(self, node: Node, name: str, gradient: str, phase: Phase, attrs: Mapping[str, Any]) -> None:
        """The node of a parameter's update rule, which reads (and, of an accumulator, clears) a gradient."""
        parameter = attrs["parameter"]
        tensor = self.graph[parameter]
        kept: dict[str, Any] = {key: attrs[key] for key in ("parameter", "x_scale", "scaling") if key in attrs}
        constants = {"beta1": self.constants.beta1, "beta2": self.constants.beta2}
        op = f"{tensor.rule}_update"
        states = []
        for kind in lookup(op).states:
            data = np.array(kind.value, kind.dtype) if kind.value else None
            made = Tensor(f"{parameter}.{kind.name}", kind.shape or tensor.shape, kind.dtype, Role.OPTIMIZER, data=data)
            states.append(self.graph.add_tensor(made).name)
        targets = [*_targets(tensor), *states]
        name, kept = f"{name}.{tensor.rule}", {**kept, **constants, **self._decay(tensor)}
        if tensor.accumulator:
            self._replace(op, name, node, [HYPER], [gradient, *targets], phase, kept)
        else:
            self._replace(op, name, node, [HYPER, gradient], targets, phase, kept)

    def _clip(self, parameter: str) -> list[str]:
        """The state that a parameter's gradient is clipped by, if it is."""
        if self.constants.clip is None:
            return []
        return [self.graph.add_tensor(Tensor(f"{parameter}.clip", (3,), "int32", Role.OPTIMIZER)).name]

    def _decay(self, parameter: Tensor) -> dict[str, float]:
        """Weights decay, biases do not."""
        decay = self.constants.weight_decay
        return {"weight_decay": decay} if decay and parameter.dtype != "int32" else {}

    def _replace(
        self, op: str, name: str, node: Node, inputs: list[str], targets: list[str], phase: Phase,
        attrs: dict[str, Any], others: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        """A node that reads `targets` and writes their next versions into the same bytes, and before them `others`."""
        outputs = [tensor.name for tensor in others]
        for target in targets:
            old = self.graph[target]
            new = old.but(name=self.graph.fresh(f"{self.graph.storage(target)}'"), alias_of=target, data=None)
            outputs.append(self.graph.add_tensor(new).name)
        stream = sum(other.phase in (Phase.UPDATE, Phase.APPLY) for other in self.graph.nodes)
        attrs = {**attrs, "stream": stream}
        self.graph.add_node(Node(op, name, (*inputs, *targets), tuple(outputs), attrs, node.origin or node.name, phase))


def _targets(parameter: Tensor) -> list[str]:
    """What changes when a parameter does."""
    return [parameter.name, *([parameter.master] if parameter.master else [])]
