# SPDX-License-Identifier: Apache-2.0
"""The loss of a training graph: what outputs are compared with, the value, and the gradient of the outputs."""

from __future__ import annotations

from typing import Any

from tinytrain.errors import SchemeError
from tinytrain.graph import Exponent, Graph, Node, Phase, Role, Tensor
from tinytrain.ops.cross_entropy import GRADIENT_EXPONENT, constants
from tinytrain.ops.operator import add_node
from tinytrain.ops.training import TrainingBuilder
from tinytrain.ops.updates import HYPER, HYPER_START
from tinytrain.train.loss import Loss

LABEL, TARGET, RESULT = "label", "target", "result"
_OPERATORS = {"cross_entropy": "softmax_cross_entropy"}  # of a kind that is not named like its operator


def add_loss(build: TrainingBuilder, loss: Loss) -> str:
    """Add the loss node, and the state it reads and writes -> name of the gradient of the outputs.

    Errors: SchemeError where the model's outputs do not fit the loss.
    """
    graph = build.graph
    outputs = graph[graph.outputs[0]].size
    loss.check(outputs, graph.name)
    compared = _compared_with(graph, loss, outputs)
    graph.add_tensor(Tensor(HYPER, HYPER_START.shape, "uint32", Role.STATE, data=HYPER_START))
    graph.add_tensor(Tensor(RESULT, (2,), "int32", Role.STATE))
    gradient, result = "logits.gradient", f"{RESULT}'"
    op, attrs = loss_operator(loss)
    node = Node(op, "loss", (graph.outputs[0], compared, RESULT), (gradient, result), attrs, phase=Phase.LOSS)
    add_node(graph, node, role=Role.GRADIENT)
    exponent = _exponent(build, loss, node, gradient, outputs)
    graph.tensors[gradient] = graph[gradient].but(exponent=exponent)
    graph.tensors[result] = graph[result].but(role=Role.STATE, alias_of=RESULT)
    return gradient


def _compared_with(graph: Graph, loss: Loss, outputs: int) -> str:
    """The tensor with the right answer: the label, given values, or the sample itself."""
    if loss.labels(outputs):
        return graph.add_tensor(Tensor(LABEL, (1,), "int32", Role.STATE)).name
    if loss.needs_target:
        return graph.add_tensor(Tensor(TARGET, (outputs,), "int32", Role.STATE)).name
    sample = graph[graph.inputs[0]]
    if sample.size != outputs:
        raise SchemeError(
            f"the outputs cannot be compared with the sample: there are {outputs}, a sample has {sample.size} values",
            where=graph.name, why='the target of the loss is "input"', fix='"target": "given"',
        )  # fmt: skip
    return sample.name


def loss_operator(loss: Loss) -> tuple[str, dict[str, Any]]:
    """The operator's name and attributes; of these only what differs from the plain loss."""
    attrs = {"label_smoothing": loss.label_smoothing, "class_weights": loss.class_weights}
    return _OPERATORS.get(loss.kind, loss.kind), {key: value for key, value in attrs.items() if value}


def _exponent(build: TrainingBuilder, loss: Loss, node: Node, gradient: str, outputs: int) -> Exponent:
    """Cross-entropies have gradients with a bound, squared errors have not."""
    if loss.kind == "mean_squared_error":
        return build.delayed_exponent(gradient)
    return constants(node.attrs, loss.labels(outputs)).gradient_exponent if node.attrs else GRADIENT_EXPONENT
