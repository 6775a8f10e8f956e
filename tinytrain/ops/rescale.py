# SPDX-License-Identifier: Apache-2.0
"""Factors between scales, shared by the elementwise operators: multipliers for values, Q15 factors for gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import refuse
from tinytrain.ops.training import TrainingBuilder

FULL_RANGE = (-128, 127)


def multiplier_args(node: Node, name: str, real: float, largest: int) -> dict[str, int]:
    """`<name>_multiplier` and `<name>_shift` for real times an integer of magnitude up to `largest`."""
    if not (0 < real < math.inf) or real * largest >= 1 << 30:
        raise refuse(
            node,
            f"its scales ask for a factor of {real:.3g}, and the results would not fit 32 bits",
            "quantize the model again: the scales of its inputs and its output lie too far apart",
        )
    multiplier, shift = am.quantize_multiplier(real)
    return {f"{name}_multiplier": multiplier, f"{name}_shift": shift}


def rescale(x: np.ndarray, args: dict[str, Any], name: str) -> np.ndarray:
    """x times the factor that `multiplier_args` prepared, with two roundings."""
    return am.requantize_double(x, args[f"{name}_multiplier"], args[f"{name}_shift"])


def clamp_of(node: Node) -> tuple[int, int]:
    low, high = node.attrs.get("clamp", FULL_RANGE)
    return low, high


def clamped(y: np.ndarray, node: Node) -> np.ndarray:
    return am.saturate(y, *clamp_of(node)).astype(np.int8)


def clamp_args(node: Node) -> dict[str, int]:
    low, high = clamp_of(node)
    return {"clamp_low": low, "clamp_high": high}


def corners(graph: Graph, name: str) -> np.ndarray:
    """The smallest and largest integers an operand can hold."""
    data = graph[name].data
    return np.array(FULL_RANGE if data is None else (data.min(), data.max()), np.int64)


def masked_where_clamped(build: TrainingBuilder, node: Node, gy: str, extremes: np.ndarray) -> str:
    """`gy` behind the mask of the output's clamp; `gy` itself where no output can leave the clamp.

    extremes: the smallest and largest outputs before the clamp
    """
    low, high = clamp_of(node)
    if extremes.min() >= low and extremes.max() <= high:
        return gy
    return build.masked(node.with_attrs(clamp=(low, high)), gy)


def require_same_scale(graph: Graph, node: Node) -> None:
    """For operators that move, compare or average integers: the output's mean what the input's mean."""
    if node.outputs[0] not in graph.tensors:
        return  # being built
    x, y = graph[node.inputs[0]].quantization, graph[node.outputs[0]].quantization
    if x is not None and y is not None and x != y:
        raise refuse(
            node,
            f"its input has the scale {x.scale[0]:.6g} and zero point {x.zero_point}, "
            f"its output {y.scale[0]:.6g} and {y.zero_point}",
            "give both the same quantization, and change it by a requantization behind this node",
        )


def q15(real: float) -> tuple[int, int]:
    """real > 0 -> (factor, k) with real ~ factor * 2^(k - 15), factor in (16384, 32768]; powers of two are exact."""
    fraction, k = math.frexp(real)
    factor = math.floor(fraction * 32768 + 0.5)
    return (factor, k) if factor > 16384 else (32768, k - 1)
