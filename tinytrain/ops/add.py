# SPDX-License-Identifier: Apache-2.0
"""Element by element sum of int8 tensors, each with its own scale: a, b -> y of a's shape. b: a's shape or one element.

Both operands are raised by 20 bits and brought to twice the larger of their scales, added, and brought to y's scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.errors import GraphError
from tinytrain.graph import Graph, Node, Role
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse, same_channels
from tinytrain.ops.rescale import clamp_args, clamped, corners, masked_where_clamped, multiplier_args, rescale
from tinytrain.ops.training import TrainingBuilder

GUARD_BITS = 20


def sum_args(graph: Graph, node: Node) -> dict[str, Any]:
    """Zero points and multipliers; the quotients of scales are formed in double precision, as TFLite forms them."""
    a, b = graph.ins(node)
    y = graph[node.outputs[0]]
    common = 2 * max(a.scale, b.scale)
    return {
        "a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "y_zero_point": y.zero_point,
        **multiplier_args(node, "a", a.scale / common, 255 << GUARD_BITS),
        **multiplier_args(node, "b", b.scale / common, 255 << GUARD_BITS),
        **multiplier_args(node, "y", common / (y.scale * (1 << GUARD_BITS)), 255 << GUARD_BITS),
    }  # fmt: skip


def rescaled_sum(args: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y before its clamp."""
    raised = [
        rescale((np.asarray(value, np.int64) - args[f"{name}_zero_point"]) << GUARD_BITS, args, name)
        for name, value in (("a", a), ("b", b))
    ]
    return rescale(raised[0] + raised[1], args, "y") + args["y_zero_point"]


@operator("add")
class Add(Operator):
    in_place = ((0, 0), (1, 0))

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        return same_channels(graph, *[t.name for t in graph.ins(node) if t.size > 1], node.outputs[0])

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        a, b = graph.ins(node)
        if b.shape != a.shape and b.size != 1:
            raise refuse(node, f"a {list(a.shape)}, b {list(b.shape)}: only equal shapes, or one element, can be added")
        if node.outputs[0] in graph.tensors:
            sum_args(graph, node)
        return [(a.shape, "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        a, b = inputs
        if b.shape != a.shape:
            b = b.reshape(-1)
        return [clamped(rescaled_sum(sum_args(run.graph, node), a, b), node)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        a, b = inputs
        shape = [1] * (a.dim() - 1) if graph[node.inputs[1]].size == 1 else a.shape[1:]
        return a + b.reshape(-1, *shape)

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        a, b = build.graph.ins(node)
        computed = [tensor for tensor in (a, b) if tensor.role is Role.ACTIVATION]
        if not wanted:
            return [None] * len(computed)
        if b.shape != a.shape and b in computed:
            raise GraphError(
                f"'{node.name}' (add) has no gradient",
                why="it adds one computed element to many",
                fix="train only layers after it",
            )
        extremes = rescaled_sum(sum_args(build.graph, node), corners(build.graph, a.name), corners(build.graph, b.name))
        gy = masked_where_clamped(build, node, gy, extremes)
        return [gy] * len(computed)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        a, b = graph.ins(node)
        args = {
            "a": Ref(a.name), "b": Ref(b.name), "y": Ref(node.outputs[0]), "size": a.size,
            "b_step": int(b.size == a.size), **sum_args(graph, node), **clamp_args(node),
        }  # fmt: skip
        return KernelCall("tt_add_s8", args)
