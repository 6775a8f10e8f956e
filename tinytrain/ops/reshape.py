# SPDX-License-Identifier: Apache-2.0
"""The same bytes under another shape: a view, no kernel runs.

The shape is attribute `shape`, or else the one the output tensor declares.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Cost, Evaluation, KernelCall, Operator, operator, refuse, same_channels
from tinytrain.ops.training import TrainingBuilder


def target_shape(graph: Graph, node: Node) -> tuple[int, ...]:
    return tuple(node.attrs["shape"]) if "shape" in node.attrs else graph[node.outputs[0]].shape


@operator("reshape")
class Reshape(Operator):
    view = True
    saturates = False

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        x, y = graph[node.inputs[0]], graph[node.outputs[0]]
        return same_channels(graph, x.name, y.name) if x.shape[-1] == y.shape[-1] else []

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, shape = graph[node.inputs[0]], target_shape(graph, node)
        if math.prod(shape) != x.size:
            raise refuse(node, f"{list(x.shape)} has {x.size} elements, {list(shape)} has {math.prod(shape)}")
        return [(shape, x.dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        return [inputs[0].reshape(target_shape(run.graph, node))]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        return inputs[0].reshape(-1, *target_shape(graph, node))

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        shape, exponent = build.graph[node.inputs[0]].shape, build.graph[gy].exponent
        return [build.gradient("reshape", node, "gx", [gy], exponent=exponent, shape=shape)]

    def lower(self, graph: Graph, node: Node) -> KernelCall | None:
        return None

    def cost(self, graph: Graph, node: Node) -> Cost:
        return Cost()
