# SPDX-License-Identifier: Apache-2.0
"""Softmax and cross-entropy in fixed point. Inputs (logits [N] int32 of 2^-16, label [1], result [2]).

Outputs the gradient of the loss by the logits as int16 of 2^-15, and the next `result`: {loss in 2^-16, index of the
largest logit}. The gradient is probability minus one-hot. With the attributes `label_smoothing` and `class_weights` it
is weight * (probability - target), in 2^-15 of the power of two that the largest weight fits, by a kernel of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.cross_entropy import constants, floating_loss, weighted_difference, weighted_loss
from tinytrain.ops.fixed_point import exp_q16, log_q16
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse


def is_weighted(node: Node) -> bool:
    return bool(node.attrs.get("label_smoothing") or node.attrs.get("class_weights"))


@operator("softmax_cross_entropy")
class SoftmaxCrossEntropy(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        logits, _, result = graph.ins(node)
        if logits.dtype != "int32" or logits.size > 65535:
            raise refuse(node, f"logits {logits.dtype}{list(logits.shape)}")
        weights = node.attrs.get("class_weights")
        if weights is not None and len(weights) != logits.size:
            raise refuse(node, f"{len(weights)} class_weights, {logits.size} logits")
        return [(logits.shape, "int16"), (result.shape, "int32")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        logits, label = inputs[0].astype(np.int64), int(inputs[1][0])
        distance = logits.max() - logits
        powers = np.array([exp_q16(int(t)) for t in distance], np.int64)
        total = int(powers.sum())
        probability = ((powers << 15) + total // 2) // total
        if is_weighted(node):
            gradient, loss = self._weighted(node, probability, distance, log_q16(total), label)
        else:
            probability[label] -= 1 << 15
            gradient = np.minimum(probability, 32767).astype(np.int16)
            loss = min(int(distance[label]) + log_q16(total), 2**31 - 1)
        return [gradient, np.array([loss, int(np.argmax(logits))], np.int32)]

    def _weighted(
        self, node: Node, probability: np.ndarray, distance: np.ndarray, log_total: int, label: int
    ) -> tuple[np.ndarray, int]:
        own = constants(node.attrs, probability.size)
        target = np.full(probability.size, own.target_other, np.int64)
        target[label] = own.target_label
        factor = int(own.factors[label])
        loss = weighted_loss(int((distance * target).sum()), log_total, factor, own.loss_shift)
        return weighted_difference(probability, target, factor), loss

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        """The losses [N]; inputs: logits [N, classes], labels int64 [N]."""
        logits, labels = inputs
        return floating_loss(node.attrs, logits.log_softmax(1), labels)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        logits, label, result = node.inputs
        args = {
            "logits": Ref(logits), "label": Ref(label), "gradient": Ref(node.outputs[0]), "result": Ref(result),
            "classes": graph[logits].size,
        }  # fmt: skip
        if not is_weighted(node):
            return KernelCall("tt_softmax_cross_entropy_s32", args)
        own = constants(node.attrs, graph[logits].size)
        args |= {
            "factors": own.factors if node.attrs.get("class_weights") else None, "target_label": own.target_label,
            "target_other": own.target_other, "loss_shift": own.loss_shift,
        }  # fmt: skip
        return KernelCall("tt_softmax_cross_entropy_weighted_s32", args)
