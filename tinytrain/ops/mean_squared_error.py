# SPDX-License-Identifier: Apache-2.0
"""The mean of squared differences. Inputs (y [N] int32 of 2^-16, target, result [2]).

The target is int32 of 2^-16, or the int8 sample itself (an auto-encoder's), of any shape with N elements. Outputs the
gradient 2 / N * (y - target) as int16 mantissas under a delayed exponent, for it has no bound, and the next `result`:
{mean of (y - target)^2 in 2^-16, 0}.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node, Tensor
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse

TARGET_BITS = 16


def factor_of(count: int) -> tuple[int, int]:
    """(multiplier, shift) of 2 / count."""
    multipliers, shifts = am.normalized_multipliers(np.array([2 / count]))
    return int(multipliers[0]), int(shifts[0])


def sample_factor(sample: Tensor) -> tuple[int, int]:
    """(multiplier, shift) from a sample's steps to 2^-16."""
    multipliers, shifts = am.normalized_multipliers(np.array([sample.scale * 2.0**TARGET_BITS]))
    return int(multipliers[0]), int(shifts[0])


def target_values(target: Tensor, value: np.ndarray) -> np.ndarray:
    """int64 [N] in 2^-16."""
    flat = value.reshape(-1).astype(np.int64)
    if target.dtype == "int32":
        return flat
    multiplier, shift = sample_factor(target)
    scaled = am.rounding_shift((flat - target.zero_point) * multiplier, 31 - shift)
    return am.saturate(scaled, am.INT32_MIN, am.INT32_MAX)


@operator("mean_squared_error")
class MeanSquaredError(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        y, target, result = graph.ins(node)
        fits = y.dtype == "int32" and target.dtype in ("int32", "int8") and y.size == target.size
        if not fits or y.size > 65535:
            raise refuse(node, f"y {y.dtype}{list(y.shape)}, target {target.dtype}{list(target.shape)}")
        return [(y.shape, "int16"), (result.shape, "int32")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        y, target, _ = inputs
        multiplier, shift = factor_of(y.size)
        difference = y.reshape(-1).astype(np.int64) - target_values(run.graph[node.inputs[1]], target)
        exponent = shift - 31 - TARGET_BITS
        gradient = run.mantissas(difference * multiplier, exponent, node.outputs[0])
        magnitude = np.abs(difference).astype(np.uint64)
        squares = (magnitude * magnitude + np.uint64(1 << 15)) >> np.uint64(16)
        mean = (int(squares.sum()) + y.size // 2) // y.size
        return [gradient.reshape(y.shape), np.array([min(mean, am.INT32_MAX), 0], np.int32)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        """The losses [N]; inputs: outputs [N, values], and what they should be, of as many elements."""
        y, target = inputs
        return ((y - target.reshape(y.shape)) ** 2).mean(1)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        y, target, result = node.inputs
        gradient = graph[node.outputs[0]]
        assert gradient.exponent is not None and gradient.exponent.state
        multiplier, shift = factor_of(graph[y].size)
        is_sample = graph[target].dtype == "int8"
        sample_multiplier, sample_shift = sample_factor(graph[target]) if is_sample else (0, 0)
        args = {
            "y": Ref(y), "target": None if is_sample else Ref(target), "sample": Ref(target) if is_sample else None,
            "sample_zero_point": graph[target].zero_point if is_sample else 0,
            "sample_multiplier": sample_multiplier, "sample_shift": sample_shift,
            "gradient": Ref(gradient.name), "gradient_exponent": Ref(gradient.exponent.state),
            "factor_multiplier": multiplier, "factor_shift": shift, "result": Ref(result), "count": graph[y].size,
        }  # fmt: skip
        return KernelCall("tt_mean_squared_error_s32", args)
