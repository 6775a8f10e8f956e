# SPDX-License-Identifier: Apache-2.0
"""A copy of some channels: x [..., C] -> y [..., count]; attribute `channels` is (start, count).

Attribute `of` is C; where that is not the extent of x's last axis, all of x is one pixel of C channels.
"""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator


@operator("slice_channels")
class SliceChannels(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, count = graph[node.inputs[0]], node.attrs["channels"][1]
        return [((*x.shape[:-1], count) if node.attrs["of"] == x.shape[-1] else (count,), x.dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        start, count = node.attrs["channels"]
        pixels = inputs[0].reshape(-1, node.attrs["of"])[:, start : start + count]
        return [np.ascontiguousarray(pixels).reshape(run.graph[node.outputs[0]].shape)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, of = graph[node.inputs[0]], node.attrs["of"]
        start, count = node.attrs["channels"]
        args = {
            "x": Ref(x.name), "y": Ref(node.outputs[0]), "pixels": x.size // of,
            "x_channels": of, "start": start, "count": count,
        }  # fmt: skip
        return KernelCall("tt_slice_channels_s8", args)
