# SPDX-License-Identifier: Apache-2.0
"""One bit per element: set where a clamped output lies strictly inside its clamp, so that its gradient passes.

Strictly inside: at a bound the integer does not tell whether the clamp was active, and for a ReLU the bound is its
zero, where the usual gradient is 0. Bits are packed, element i in bit i % 8 of byte i / 8.
"""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator


@operator("clamp_mask")
class ClampMask(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(graph[node.inputs[0]].shape, "bit")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        low, high = node.attrs["clamp"]
        return [np.packbits((inputs[0] > low) & (inputs[0] < high), bitorder="little")]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        low, high = node.attrs["clamp"]
        y = graph[node.inputs[0]]
        args = {"y": Ref(y.name), "mask": Ref(node.outputs[0]), "size": y.size, "clamp_low": low, "clamp_high": high}
        return KernelCall("tt_clamp_mask_s8", args)
