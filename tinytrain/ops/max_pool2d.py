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
    Scratch,
    exponent_args,
    kernel_for,
    operator,
    own_exponent,
    refuse,
)
from tinytrain.ops.rescale import clamp_args, clamped, corners, masked_where_clamped, require_same_scale
from tinytrain.ops.training import TrainingBuilder

PADDING = -129  # below every int8


@operator("max_pool2d")
class MaxPool2d(Operator):
    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        return [[(node.inputs[0], 2), (node.outputs[0], 2)]]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        shape, kernel = graph[node.inputs[0]].shape, node.attrs["kernel"]
        if len(shape) != 3:
            raise refuse(node, f"x {list(shape)} is not an image [H, W, C]")
        size = windows.output_size(node, shape, kernel)
        windows.cells_inside(node, shape, kernel)
        require_same_scale(graph, node)
        return [((*size, shape[2]), "int8")]

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
        attrs = {key: node.attrs[key] for key in ("kernel", "strides", "padding") if key in node.attrs}
        winner = f"{node.outputs[0]}.winner"
        origin = node.origin or node.name
        build.save(x, Node("max_pool2d_winner", winner, (x,), (winner,), attrs, origin), Role.MASK)
        overlap = windows.windows_overlap(node, graph[gy].shape, kernel)
        exponent = None if overlap else graph[gy].exponent
        attrs["x_shape"] = graph[x].shape
        return [build.gradient("max_pool2d_gradient", node, "gx", [gy, winner], exponent=exponent, **attrs)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        require_same_scale(graph, node)
        x, y = graph[node.inputs[0]], graph[node.outputs[0]]
        args = {
            "x": Ref(x.name), "y": Ref(y.name), "channels": x.shape[2],
            **windows.window_args(node, x.shape, y.shape, node.attrs["kernel"]), **clamp_args(node),
        }  # fmt: skip
        return KernelCall("tt_max_pool2d_s8", args)


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
class MaxPool2dGradient(Operator):
    """gx [H, W, C] = sum of gy over the windows a cell won: inputs (gy, winner), attribute x_shape.

    Where no windows overlap the gradients only move, and gx has gy's exponent; otherwise sums get a delayed one.
    """

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

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
        args = {
            "gy": Ref(gy.name), "winner": Ref(winner.name), "gx": Ref(gx.name), "scratch": Scratch(),
            "channels": gx.shape[2], **windows.window_args(node, gx.shape, gy.shape, node.attrs["kernel"]),
            **exponent_args("gy", gy.exponent),
            "gx_exponent": own_exponent(graph, node),
        }  # fmt: skip
        return KernelCall(kernel_for(gx, "tt_max_pool2d_gradient"), args)

    def scratch(self, graph: Graph, node: Node) -> int:
        return 4 * node.attrs["x_shape"][2]  # the sums of one pixel
