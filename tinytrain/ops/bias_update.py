# SPDX-License-Identifier: Apache-2.0
"""Bias gradient, the sum of gy over pixels, and its update in one pass. Inputs (gy [..., C], hyper, targets...)."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, kernel_for, operator
from tinytrain.ops.updates import update_args, updated


@operator("bias_update")
class BiasUpdate(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(tensor.shape, tensor.dtype) for tensor in graph.outs(node)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, hyper, *targets = inputs
        sums = gy.reshape(-1, gy.shape[-1]).astype(np.int64).sum(axis=0)
        return updated(run, node, sums, hyper, targets)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy = graph[node.inputs[0]]
        args = {
            "gy": Ref(gy.name),
            "pixels": gy.size // gy.shape[-1],
            "channels": gy.shape[-1],
            "update": update_args(graph, node),
        }
        return KernelCall(kernel_for(gy, "tt_bias_update"), args)
