# SPDX-License-Identifier: Apache-2.0
"""The same reals under another scale, zero point and clamp: x -> y of x's shape. ReLU, ReLU6, Clip; a change of scale.

Attribute `ratio` says how x's scale over y's is formed: "double" (the default; TFLite's QUANTIZE) or "float32" (RELU).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse, same_channels
from tinytrain.ops.rescale import clamp_args, clamped, corners, masked_where_clamped, multiplier_args, rescale
from tinytrain.ops.training import TrainingBuilder


def requantize_args(graph: Graph, node: Node) -> dict[str, int]:
    x, y = graph[node.inputs[0]], graph[node.outputs[0]]
    ratio = node.attrs.get("ratio", "double")
    if ratio not in ("double", "float32"):
        raise refuse(node, f"ratio '{ratio}'")
    real = x.scale / y.scale if ratio == "double" else float(np.float32(x.scale) / np.float32(y.scale))
    return {"x_zero_point": x.zero_point, "y_zero_point": y.zero_point, **multiplier_args(node, "y", real, 255)}


def rescaled(args: dict[str, int], x: np.ndarray) -> np.ndarray:
    """y before its clamp."""
    return rescale(x.astype(np.int64) - args["x_zero_point"], args, "y") + args["y_zero_point"]


@operator("requantize")
class Requantize(Operator):
    in_place = ((0, 0),)

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        return same_channels(graph, node.inputs[0], node.outputs[0])

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        if node.outputs[0] in graph.tensors:
            requantize_args(graph, node)
        return [(graph[node.inputs[0]].shape, "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        return [clamped(rescaled(requantize_args(run.graph, node), inputs[0]), node)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        return inputs[0]

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        extremes = rescaled(requantize_args(build.graph, node), corners(build.graph, node.inputs[0]))
        return [masked_where_clamped(build, node, gy, extremes)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        args = {
            "x": Ref(node.inputs[0]), "y": Ref(node.outputs[0]), "size": graph[node.inputs[0]].size,
            **requantize_args(graph, node), **clamp_args(node),
        }  # fmt: skip
        return KernelCall("tt_requantize_s8", args)
