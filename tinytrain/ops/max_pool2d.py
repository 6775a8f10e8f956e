# SPDX-License-Identifier: Apache-2.0
"""Maximum over sliding windows. x [H, W, C] -> y [OH, OW, C]; padded cells never win.

Attributes `kernel`, `strides`, `padding`, `clamp`. Input and output have the same quantization. For the gradient, one
byte per output is kept: which cell of the window won.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Node, Role
from tinytrain.ops import windows
from tinytrain.ops.operator import (
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    exponent_args,
    kernel_for,
    operator,
    own_exponent,
)
from tinytrain.ops.pooling import Pool2d, PoolGradient, gradient_args, window_attrs
from tinytrain.ops.rescale import clamped, corners, masked_where_clamped
from tinytrain.ops.training import TrainingBuilder

PADDING = -129  # below every int8


@operator("max_pool2d")
class MaxPool2d(Pool2d):
    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        patches = windows.patches(node, inputs[0].astype(np.int64), node.attrs["kernel"], PADDING)
        return [clamped(patches.max(axis=(2, 3)), node)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        from torch.nn import functional as F

        image = windows.padded_channels_first(node, inputs[0], -math.inf)
        return F.max_pool2d(image, node.attrs["kernel"], windows.strides_of(node)).permute(0, 2, 3, 1)

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        graph, x, kernel = build.graph, node.inputs[0], node.attrs["kernel"]
        if kernel[0] * kernel[1] > 256:
            raise SchemeError(
                f"'{node.name}' has a {kernel[0]} x {kernel[1]} window, which no gradient passes",
                why="the winner of a window is kept in one byte, which counts to 256",
                fix="train only layers behind it",
            )
        gy = masked_where_clamped(build, node, gy, corners(graph, x))
        attrs = window_attrs(node)
        winner = f"{node.outputs[0]}.winner"
        origin = node.origin or node.name
        build.save(x, Node("max_pool2d_winner", winner, (x,), (winner,), attrs, origin), Role.MASK)
        overlap = windows.windows_overlap(node, graph[gy].shape, kernel)
        exponent = None if overlap else graph[gy].exponent
        attrs = {"x_shape": graph[x].shape, **attrs}
        return [build.gradient("max_pool2d_gradient", node, "gx", [gy, winner], exponent=exponent, **attrs)]


@operator("max_pool2d_winner")
class MaxPool2dWinner(Operator):
    """Which cell of each window is its first maximum: x [H, W, C] -> uint8 [OH, OW, C], row in window * KW + column."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        shape = graph[node.inputs[0]].shape
        return [((*windows.output_size(node, shape, node.attrs["kernel"]), shape[2]), "uint8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        patches = windows.patches(node, inputs[0].astype(np.int64), node.attrs["kernel"], PADDING)
        oh, ow, kh, kw, channels = patches.shape
        return [patches.reshape(oh, ow, kh * kw, channels).argmax(axis=2).astype(np.uint8)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, winner = graph[node.inputs[0]], graph[node.outputs[0]]
        args = {
            "x": Ref(x.name), "winner": Ref(winner.name), "channels": x.shape[2],
            **windows.window_args(node, x.shape, winner.shape, node.attrs["kernel"]),
        }  # fmt: skip
        return KernelCall("tt_max_pool2d_winner_s8", args)


@operator("max_pool2d_gradient")
class MaxPool2dGradient(PoolGradient):
    """gx [H, W, C] = sum of gy over the windows a cell won: inputs (gy, winner), attribute x_shape.

    Where no windows overlap the gradients only move, and gx has gy's exponent; otherwise sums get a delayed one.
    """

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, winner = inputs
        kh, kw = node.attrs["kernel"]
        won = winner[:, :, None, None, :] == np.arange(kh * kw).reshape(kh, kw, 1)
        sums = windows.scatter(node, won * gy[:, :, None, None, :].astype(np.int64), node.attrs["x_shape"])
        if own_exponent(run.graph, node) is None:
            return [sums.astype(gy.dtype)]
        return [run.mantissas(sums, run.exponent(node.inputs[0]), node.outputs[0])]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, winner = graph.ins(node)
        gx = graph[node.outputs[0]]
        args = {**gradient_args(graph, node), "winner": Ref(winner.name), **exponent_args("gy", gy.exponent)}
        return KernelCall(kernel_for(gx, "tt_max_pool2d_gradient"), args)
