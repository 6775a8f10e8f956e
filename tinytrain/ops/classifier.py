# SPDX-License-Identifier: Apache-2.0
"""The trained last layer: int16 weights, evaluated at that precision. x [...] of CI int8, w [N, CI], b [N] -> y [N].

The logits y are int32 in units of 2^-16. A weight's step is 2^-8 of the int8 step it started from (or of the step a new
head is given), a bias is in units of the products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.conv2d import relative_scales, scaling_error
from tinytrain.ops.operator import (
    Cost,
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    exponent_args,
    kernel_for,
    operator,
    refuse,
)
from tinytrain.ops.training import TrainingBuilder
from tinytrain.ops.updates import add_updates

LOGIT_BITS = 16


def logit_multipliers(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray, int]:
    """Multiplier and shift per class, and the right shift that brings any sum into 32 bits."""
    x, w = graph[node.inputs[0]], graph[node.inputs[2]]
    assert w.quantization is not None
    multipliers, shifts = am.normalized_multipliers(x.scale * w.quantization.scale * 2.0**LOGIT_BITS)
    largest = x.size * 255 * 32512 + (1 << 31)
    return multipliers, shifts, largest.bit_length() - 31


@operator("classifier")
class Classifier(Operator):
    saturates = False

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        x = graph[node.inputs[0]]
        return [[(x.name, len(x.shape) - 1), (node.inputs[2], 1)]] if x.size == x.shape[-1] else []

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, bias, w = graph.ins(node)
        if w.shape[1] != x.size or bias.shape != w.shape[:1] or w.dtype != "int16":
            raise refuse(node, f"x {list(x.shape)}, w {w.dtype}{list(w.shape)}, bias {list(bias.shape)}")
        return [((w.shape[0],), "int32")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, bias, w = inputs
        multipliers, shifts, total_shift = logit_multipliers(run.graph, node)
        centred = x.reshape(-1).astype(np.int64) - run.graph[node.inputs[0]].zero_point
        total = am.rounding_shift(w.astype(np.int64) @ centred + bias, total_shift)
        logits = am.rounding_shift(total * multipliers, 31 - shifts.astype(np.int64) - total_shift)
        return [am.saturate(logits, am.INT32_MIN, am.INT32_MAX).astype(np.int32)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        x, bias, weight = inputs
        return x.reshape(x.shape[0], -1) @ weight.T + bias

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        gx = None
        if wanted:
            shape = build.graph[node.inputs[0]].shape
            gx = build.gradient(
                "classifier_input_gradient", node, "gx", [gy, node.inputs[2]], x_shape=shape, dtype=build.gradient_dtype
            )
        classes, inputs = build.graph[node.inputs[2]].shape
        add_updates(build, node, gy, "conv2d_weight_update", [(0, classes, 0, inputs)], (1, 1))
        return [gx]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, bias, w = node.inputs
        multipliers, shifts, total_shift = logit_multipliers(graph, node)
        args = {
            "x": Ref(x), "bias": Ref(bias), "weights": Ref(w), "y": Ref(node.outputs[0]),
            "inputs": graph[x].size, "classes": graph[w].shape[0], "x_zero_point": graph[x].zero_point,
            "multiplier": multipliers, "shift": shifts, "total_shift": total_shift,
        }  # fmt: skip
        return KernelCall("tt_classifier_s16", args)

    def cost(self, graph: Graph, node: Node) -> Cost:
        return Cost(graph[node.inputs[2]].size, super().cost(graph, node).bytes_moved)


@operator("classifier_input_gradient")
class ClassifierInputGradient(Operator):
    """gx of the classifier: inputs (gy [N], w [N, CI]); attributes x_shape, dtype. gy is the loss's, always int16."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], node.attrs["dtype"])]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, w = inputs
        factors, k = self._scales(run.graph, node)
        scaled = am.rounding_shift(gy.astype(np.int64) * factors, 15)
        sums = (scaled @ w.astype(np.int64)).reshape(node.attrs["x_shape"])
        return [run.mantissas(sums, run.exponent(node.inputs[0]) + k, node.outputs[0])]

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """Each product of a weight with a scaled gradient is off by that gradient's rounding."""
        gy, w = inputs
        sums = scaling_error(gy) @ np.abs(w.astype(np.float64)) * 2.0 ** self._scales(run.graph, node)[1]
        return super().error(run, node) + sums.reshape(node.attrs["x_shape"]) * run.unit(node.inputs[0])

    def _scales(self, graph: Graph, node: Node) -> tuple[np.ndarray, int]:
        w = graph[node.inputs[1]]
        assert w.quantization is not None
        return relative_scales(np.broadcast_to(w.quantization.scale, w.shape[:1]))

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, w = graph.ins(node)
        gx = graph[node.outputs[0]]
        assert gy.exponent is not None and gx.exponent is not None and gx.exponent.state
        factors, k = self._scales(graph, node)
        args = {
            "gy": Ref(gy.name), "weights": Ref(w.name), "gx": Ref(gx.name), "inputs": gx.size, "classes": w.shape[0],
            "factors": factors, **exponent_args("gy", gy.exponent.shifted(k)), "gx_exponent": Ref(gx.exponent.state),
        }  # fmt: skip
        return KernelCall(kernel_for(gx, "tt_classifier_input_gradient"), args)

    def cost(self, graph: Graph, node: Node) -> Cost:
        return Cost(graph[node.inputs[1]].size, super().cost(graph, node).bytes_moved)
