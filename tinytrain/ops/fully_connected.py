# SPDX-License-Identifier: Apache-2.0
"""Fully connected layer, int8 weights per tensor or per output channel. x of CI elements, w [CO, CI], b [CO] -> y [CO].

It is a convolution of one pixel with a 1 x 1 window: kernels, weight blocks and gradient nodes are those of conv2d.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.conv2d import SUM_LIMIT, Conv2d, assemble, blocks_of, finish, requantize_args, weight_scales
from tinytrain.ops.operator import Evaluation, operator, refuse


@operator("fully_connected")
class FullyConnected(Conv2d):
    weight_axes = (0, 1)

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        x, bias, weight = node.inputs
        axis = len(graph[x].shape) - 1
        outputs = [(node.outputs[0], 0), (weight, 0), (bias, 0)]
        return [outputs, [(x, axis), (weight, 1)]] if graph[x].size == graph[x].shape[axis] else [outputs]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, bias, *blocks = graph.ins(node)
        rectangles = blocks_of(graph, node)
        co = max(c0 + cn for c0, cn, _, _ in rectangles)
        shapes = [(cn, count) for _, cn, _, count in rectangles]
        if shapes != [block.shape for block in blocks] or sum(cn * count for cn, count in shapes) != co * x.size:
            weights = [list(block.shape) for block in blocks]
            raise refuse(node, f"x {list(x.shape)} has {x.size} elements, its weights are {weights}")
        if bias.shape != (co,):
            raise refuse(node, f"{co} outputs, bias {list(bias.shape)}")
        if x.size > SUM_LIMIT:
            raise refuse(node, "a sum of this many products may pass 32 bits", "split the layer")
        return [((co,), "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, bias, *blocks = inputs
        args = requantize_args(run.graph, node, weight_scales(run.graph, node, node.inputs[2:]))
        w = assemble(run.graph, node, blocks)[:, 0, 0]
        sums = w @ (x.reshape(-1).astype(np.int64) - args["x_zero_point"])
        return [finish(sums, bias.astype(np.int64), args)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        x, bias, weight = inputs
        return x.reshape(x.shape[0], -1) @ weight.T + bias
