# SPDX-License-Identifier: Apache-2.0
"""Padding with the zero point (real 0). x of up to three dimensions; attribute `padding`: (before, after) of each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, kernel_for, operator, refuse
from tinytrain.ops.rescale import require_same_scale
from tinytrain.ops.training import TrainingBuilder

Padding = tuple[tuple[int, int], ...]


def box_args(shape: tuple[int, ...], padding: Padding) -> dict[str, Any]:
    """struct tt_box: the shape as [planes, rows, run], where a run takes in the inner dimensions without padding."""
    inner = len(shape)
    while inner > 1 and padding[inner - 1] == (0, 0):
        inner -= 1
    run = math.prod(shape[inner:])
    extents = [*shape[: inner - 1], shape[inner - 1] * run]
    pairs = [*padding[: inner - 1], (padding[inner - 1][0] * run, padding[inner - 1][1] * run)]
    missing = 3 - len(extents)
    extents, pairs = [1] * missing + extents, [(0, 0)] * missing + pairs
    box: dict[str, int] = {}
    for name, extent, (before, after) in zip(("planes", "rows", "run"), extents, pairs, strict=True):
        box |= {name: extent, f"padded_{name}": before + extent + after, f"{name}_before": before}
    return {"box": box}


@operator("pad")
class Pad(Operator):
    saturates = False

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        pairs = enumerate(node.attrs["padding"])
        return [[(node.inputs[0], axis), (node.outputs[0], axis)] for axis, pair in pairs if tuple(pair) == (0, 0)]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        shape, padding = graph[node.inputs[0]].shape, node.attrs["padding"]
        if len(padding) != len(shape) or len(shape) > 3:
            raise refuse(node, f"padding {padding} of x {list(shape)}; up to three dimensions are supported")
        if any(amount < 0 for pair in padding for amount in pair):
            raise refuse(node, f"its padding {padding} takes elements away", "cut the input instead")
        require_same_scale(graph, node)
        return [(tuple(before + n + after for n, (before, after) in zip(shape, padding, strict=True)), "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        fill = run.graph[node.inputs[0]].zero_point
        return [np.pad(inputs[0], node.attrs["padding"], constant_values=fill)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        from torch.nn import functional as F

        return F.pad(inputs[0], [amount for pair in reversed(node.attrs["padding"]) for amount in pair])

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        attrs = {"padding": node.attrs["padding"], "x_shape": build.graph[node.inputs[0]].shape}
        return [build.gradient("pad_gradient", node, "gx", [gy], exponent=build.graph[gy].exponent, **attrs)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        require_same_scale(graph, node)
        x = graph[node.inputs[0]]
        box = box_args(x.shape, node.attrs["padding"])
        return KernelCall("tt_pad_s8", {"x": Ref(x.name), "y": Ref(node.outputs[0]), "value": x.zero_point, **box})


@operator("pad_gradient")
class PadGradient(Operator):
    """gx: the part of gy that is not padding, under gy's exponent; attributes `padding` and x_shape."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        pairs = zip(node.attrs["padding"], node.attrs["x_shape"], strict=True)
        return [np.ascontiguousarray(inputs[0][tuple(slice(before, before + n) for (before, _), n in pairs)])]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        box = box_args(node.attrs["x_shape"], node.attrs["padding"])
        args = {"gy": Ref(node.inputs[0]), "gx": Ref(node.outputs[0]), **box}
        return KernelCall(kernel_for(graph[node.inputs[0]], "tt_pad_gradient"), args)
