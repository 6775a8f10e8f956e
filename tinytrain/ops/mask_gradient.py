# SPDX-License-Identifier: Apache-2.0
"""The gradient of a clamp: gy where the mask bit is set, else 0. Inputs (gy, mask)."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, kernel_for, operator


@operator("mask_gradient")
class MaskGradient(Operator):
    in_place = ((0, 0),)

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(graph[node.inputs[0]].shape, graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, mask = inputs
        bits = np.unpackbits(mask, count=gy.size, bitorder="little").reshape(gy.shape)
        return [np.where(bits, gy, 0).astype(gy.dtype)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, mask = node.inputs
        args = {"gy": Ref(gy), "mask": Ref(mask), "gx": Ref(node.outputs[0]), "size": graph[gy].size}
        return KernelCall(kernel_for(graph[gy], "tt_mask_gradient"), args)
