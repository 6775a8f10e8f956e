# SPDX-License-Identifier: Apache-2.0
"""The sum of two gradients of one tensor, each with an exponent of its own; the result has a delayed one."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, exponent_args, kernel_for, operator

GUARD_BITS = 24  # kept below the larger exponent: sums of both are exact where the exponents differ by no more


@operator("gradient_add")
class GradientAdd(Operator):
    in_place = ((0, 0), (1, 0))

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(graph[node.inputs[0]].shape, graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        exponents = [run.exponent(name) for name in node.inputs]
        common = max(exponents) - GUARD_BITS
        total = sum(am.rounding_shift(g, common - exponent) for g, exponent in zip(inputs, exponents, strict=True))
        return [run.mantissas(np.asarray(total), common, node.outputs[0])]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        a, b = graph.ins(node)
        y = graph[node.outputs[0]]
        assert y.exponent is not None and y.exponent.state
        args = {
            "a": Ref(a.name), "b": Ref(b.name), "y": Ref(y.name), "size": y.size,
            **exponent_args("a", a.exponent), **exponent_args("b", b.exponent), "y_exponent": Ref(y.exponent.state),
        }  # fmt: skip
        return KernelCall(kernel_for(y, "tt_gradient_add"), args)
