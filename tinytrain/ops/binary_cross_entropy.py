# SPDX-License-Identifier: Apache-2.0
"""Sigmoid and binary cross-entropy in fixed point. Inputs (logit [1] int32 of 2^-16, label [1], result [2]).

It is the softmax cross-entropy of the logits {0, z}, of which z trains: outputs the gradient weight * (sigmoid(z) -
target) as int16 of 2^-15 (of the power of two that the largest weight fits), and the next `result`: {loss in 2^-16,
z > 0}. Attributes: `label_smoothing`, `class_weights` (of the classes 0 and 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.cross_entropy import constants, floating_loss, weighted_difference, weighted_loss
from tinytrain.ops.fixed_point import exp_q16, log_q16
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse


@operator("binary_cross_entropy")
class BinaryCrossEntropy(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        logit, _, result = graph.ins(node)
        if logit.dtype != "int32" or logit.size != 1:
            raise refuse(node, f"logits {logit.dtype}{list(logit.shape)}, it takes one")
        if len(node.attrs.get("class_weights") or (1, 1)) != 2:
            raise refuse(node, f"{len(node.attrs['class_weights'])} class_weights, there are 2 classes")
        return [(logit.shape, "int16"), (result.shape, "int32")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        z, label = int(inputs[0].reshape(-1)[0]), int(inputs[1][0])
        own = constants(node.attrs, 2)
        factor = int(own.factors[label])
        target = own.target_label if label else own.target_other
        below, above = max(-z, 0), max(z, 0)
        power = exp_q16(below)
        total = power + exp_q16(above)
        probability = ((power << 15) + total // 2) // total
        gradient = weighted_difference(np.full(inputs[0].shape, probability), target, factor)
        spread = below * target + above * ((1 << 30) - target)
        loss = weighted_loss(spread, log_q16(total), factor, own.loss_shift)
        return [gradient, np.array([loss, z > 0], np.int32)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        """The losses [N]; inputs: logits [N, 1], labels int64 [N]."""
        logits, labels = inputs
        both = logits.new_zeros(logits.shape[0], 2)
        both[:, 1] = logits[:, 0]
        return floating_loss(node.attrs, both.log_softmax(1), labels)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        logit, label, result = node.inputs
        own = constants(node.attrs, 2)
        args = {
            "logit": Ref(logit), "label": Ref(label), "gradient": Ref(node.outputs[0]), "result": Ref(result),
            "factor_0": own.factors[0], "factor_1": own.factors[1], "target_label": own.target_label,
            "target_other": own.target_other, "loss_shift": own.loss_shift,
        }  # fmt: skip
        return KernelCall("tt_binary_cross_entropy_s32", args)
