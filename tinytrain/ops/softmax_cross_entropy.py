# SPDX-License-Identifier: Apache-2.0
"""Softmax and cross-entropy in fixed point. Inputs (logits [N] int32 of 2^-16, label [1], result [2]).

Outputs the gradient of the loss by the logits, probability minus one-hot, as int16 of 2^-15, and the next `result`:
{loss in 2^-16, index of the largest logit}.

exp(-t) is 2^-n times a polynomial for 2^-f, the Taylor series of degree 6 (error below 2e-5, less than a bit of 2^-15).
"""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Exponent, Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse

GRADIENT_EXPONENT = Exponent(None, -15)
LOG2_E = 94548  # log2(e), 16 bits
LN_2 = 45426  # ln(2), 16 bits
FARTHEST = 24 << 16  # logits this far below the largest have the probability 0
# (-ln 2)^k / k! in 30 bits, from k = 6 down to 0
EXP2_TERMS = (165394, -1431680, 10327387, -59597083, 257941248, -744261118, 1073741824)


def exp_q16(t: int) -> int:
    """exp(-t / 2^16) in 16 bits, t >= 0."""
    if t >= FARTHEST:
        return 0
    u = (t * LOG2_E) >> 16
    fraction = (u & 0xFFFF) << 14
    value = 0
    for term in EXP2_TERMS:
        value = ((value * fraction) >> 30) + term
    return value >> (14 + (u >> 16))


def log_q16(x: int) -> int:
    """ln(x / 2^16) in 16 bits for x >= 2^16: the bits of log2 one by one, by squaring."""
    length = x.bit_length()
    y = (x << (32 - length)) >> 1  # 31 bits, the top one set
    log2 = 0
    for _ in range(16):
        y = (y * y) >> 30
        log2 <<= 1
        if y >= 1 << 31:
            y >>= 1
            log2 |= 1
    return ((((length - 17) << 16) + log2) * LN_2) >> 16


@operator("softmax_cross_entropy")
class SoftmaxCrossEntropy(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        logits, _, result = graph.ins(node)
        if logits.dtype != "int32" or logits.size > 65535:
            raise refuse(node, f"logits {logits.dtype}{list(logits.shape)}")
        return [(logits.shape, "int16"), (result.shape, "int32")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        logits, label = inputs[0].astype(np.int64), int(inputs[1][0])
        distance = logits.max() - logits
        powers = np.array([exp_q16(int(t)) for t in distance], np.int64)
        total = int(powers.sum())
        probability = ((powers << 15) + total // 2) // total
        probability[label] -= 1 << 15
        gradient = np.minimum(probability, 32767).astype(np.int16)
        loss = min(int(distance[label]) + log_q16(total), 2**31 - 1)
        return [gradient, np.array([loss, int(np.argmax(logits))], np.int32)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        logits, label, result = node.inputs
        args = {
            "logits": Ref(logits), "label": Ref(label), "gradient": Ref(node.outputs[0]), "result": Ref(result),
            "classes": graph[logits].size,
        }  # fmt: skip
        return KernelCall("tt_softmax_cross_entropy_s32", args)
