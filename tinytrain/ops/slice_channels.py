# SPDX-License-Identifier: Apache-2.0
"""A copy of some channels: x [..., C] -> y [..., count]; attribute `channels` is (start, count)."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator


@operator("slice_channels")
class SliceChannels(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x = graph[node.inputs[0]]
        return [((*x.shape[:-1], node.attrs["channels"][1]), x.dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        start, count = node.attrs["channels"]
        return [np.ascontiguousarray(inputs[0][..., start : start + count])]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x = graph[node.inputs[0]]
        start, count = node.attrs["channels"]
        args = {
            "x": Ref(x.name), "y": Ref(node.outputs[0]), "pixels": x.size // x.shape[-1],
            "x_channels": x.shape[-1], "start": start, "count": count,
        }  # fmt: skip
        return KernelCall("tt_slice_channels_s8", args)
