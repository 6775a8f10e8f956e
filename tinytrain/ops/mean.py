# SPDX-License-Identifier: Apache-2.0
"""Mean over neighbouring axes of an int8 tensor. x seen as [outer, n, inner] -> y [outer, inner].

Attributes: `axes` (neighbouring, ascending) and `keepdims`. The multiplier from x's to y's scale is divided by n, so
sums are requantized in one go; that is TFLite's MEAN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import (
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    exponent_args,
    kernel_for,
    operator,
    own_exponent,
    refuse,
    same_channels,
)
from tinytrain.ops.rescale import clamp_args, clamped, corners, masked_where_clamped, multiplier_args, q15, rescale
from tinytrain.ops.training import TrainingBuilder


def extents(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, int, int]:
    """(outer, n, inner)"""
    return math.prod(shape[: axes[0]]), math.prod(shape[axes[0] : axes[-1] + 1]), math.prod(shape[axes[-1] + 1 :])


def mean_args(graph: Graph, node: Node) -> dict[str, int]:
    """Zero points and the multiplier from sums to y's integers."""
    x, y = graph[node.inputs[0]], graph[node.outputs[0]]
    _, n, _ = extents(x.shape, node.attrs["axes"])
    args = multiplier_args(node, "y", x.scale / y.scale, 255 * n)
    shift = min(n.bit_length() - 1, 31 + args["y_shift"])
    return {
        "x_zero_point": x.zero_point, "y_zero_point": y.zero_point,
        "y_multiplier": (args["y_multiplier"] << shift) // n, "y_shift": args["y_shift"] - shift,
    }  # fmt: skip


def rescaled_sums(args: dict[str, int], sums: np.ndarray, n: int) -> np.ndarray:
    """y before its clamp; sums: of x's integers."""
    return rescale(sums - n * args["x_zero_point"], args, "y") + args["y_zero_point"]


@operator("mean")
class Mean(Operator):
    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        last = len(graph[node.inputs[0]].shape) - 1
        return [] if last in node.attrs["axes"] else same_channels(graph, node.inputs[0], node.outputs[0])

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        shape, axes = graph[node.inputs[0]].shape, tuple(node.attrs["axes"])
        if not axes or axes[0] < 0 or axes[-1] >= len(shape) or axes != tuple(range(axes[0], axes[-1] + 1)):
            raise refuse(node, f"a mean of {list(shape)} over the axes {list(axes)}; they must be neighbours, in order")
        if extents(shape, axes)[1] > 1 << 22:
            raise refuse(node, "a sum of this many elements may pass 32 bits")
        if node.outputs[0] in graph.tensors:
            mean_args(graph, node)
        if node.attrs["keepdims"]:
            return [(tuple(1 if axis in axes else extent for axis, extent in enumerate(shape)), "int8")]
        return [(shape[: axes[0]] + shape[axes[-1] + 1 :] or (1,), "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        (x,) = inputs
        outer, n, inner = extents(x.shape, node.attrs["axes"])
        sums = x.reshape(outer, n, inner).astype(np.int64).sum(axis=1)
        y = clamped(rescaled_sums(mean_args(run.graph, node), sums, n), node)
        return [y.reshape(run.graph[node.outputs[0]].shape)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        (x,) = inputs
        return x.mean([axis + 1 for axis in node.attrs["axes"]]).reshape(-1, *graph[node.outputs[0]].shape)

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        graph, shape, axes = build.graph, build.graph[node.inputs[0]].shape, node.attrs["axes"]
        _, n, _ = extents(shape, axes)
        extremes = rescaled_sums(mean_args(graph, node), n * corners(graph, node.inputs[0]), n)
        gy = masked_where_clamped(build, node, gy, extremes)
        exponent = None
        if graph[gy].dtype == "int16":  # 8 bits are too few for a second rounding under the same exponent
            old = graph[gy].exponent
            assert old is not None
            exponent = old.shifted(q15(1 / n)[1])
        return [build.gradient("mean_gradient", node, "gx", [gy], exponent=exponent, x_shape=shape, axes=axes)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        outer, n, inner = extents(graph[node.inputs[0]].shape, node.attrs["axes"])
        args = {
            "x": Ref(node.inputs[0]), "y": Ref(node.outputs[0]), "outer": outer, "count": n, "inner": inner,
            **mean_args(graph, node), **clamp_args(node),
        }  # fmt: skip
        return KernelCall("tt_mean_s8", args)


@operator("mean_gradient")
class MeanGradient(Operator):
    """gx = gy / n for every averaged element: a Q15 factor, and the power of two of 1 / n.

    int16 mantissas have gy's exponent plus that power; int8 ones a delayed exponent of their own.
    """

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        shape = node.attrs["x_shape"]
        outer, n, inner = extents(shape, node.attrs["axes"])
        factor, k = q15(1 / n)
        products = inputs[0].reshape(outer, 1, inner).astype(np.int64) * factor
        repeated = np.broadcast_to(products, (outer, n, inner)).reshape(shape)
        if own_exponent(run.graph, node) is None:
            return [am.rounding_shift(repeated, 15).astype(np.int16)]
        return [run.mantissas(repeated, run.exponent(node.inputs[0]) + k - 15, node.outputs[0])]

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """Half a unit for the rounding, half a step of the 15-bit factor."""
        return run.unit(node.outputs[0])

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy = graph[node.inputs[0]]
        assert gy.exponent is not None
        outer, n, inner = extents(node.attrs["x_shape"], node.attrs["axes"])
        factor, k = q15(1 / n)
        args: dict[str, Any] = {
            "gy": Ref(gy.name), "gx": Ref(node.outputs[0]), "outer": outer, "count": n, "inner": inner,
            "factor": factor,
        }  # fmt: skip
        if own := own_exponent(graph, node):
            args |= {**exponent_args("gy", gy.exponent.shifted(k - 15)), "gx_exponent": own}
        return KernelCall(kernel_for(gy, "tt_mean_gradient"), args)
