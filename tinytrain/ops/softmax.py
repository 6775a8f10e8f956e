# SPDX-License-Identifier: Apache-2.0
"""Softmax over the last dimension, int8 -> int8 of scale 1/256 and zero point -128. Attribute `beta`, 1 by default.

TFLite's reference kernel, in fixed point: exp is a Taylor series around -1/8 times tabulated powers, 1 / sum is three
Newton steps, every product rounds to 31 fractional bits. The training graph drops a final softmax: its loss
has one of its own.

Where a row's sum of exponentials reaches 512 (many nearly equal classes), TFLite stops with a failed check: its last
shift would be longer than a word. The result is 0 of 256 here: the real quotient is below half a step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse

INTEGER_BITS = 5  # of a scaled difference to the row's maximum
SUM_INTEGER_BITS = 12  # of the sum of exponentials
LONGEST_ROW = (1 << SUM_INTEGER_BITS) - 1
EXP_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
# exp(-2^k) in 31 bits, from k = -2 on
EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
# 48 / 17 and -32 / 17 in 29 bits: the first guess of a reciprocal
RECIPROCAL_START, RECIPROCAL_SLOPE = 1515870810, -1010580540


def high_product(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    """a * b / 2^31, rounded to nearest."""
    return am.requantize_double(a, np.asarray(b), np.asarray(0))


def divided(x: np.ndarray, bits: np.ndarray | int) -> np.ndarray:
    """x / 2^bits, rounded to nearest."""
    return am.rounding_divide_by_power_of_two(x, np.asarray(bits))


def raised(x: np.ndarray, bits: int) -> np.ndarray:
    return am.saturate(np.asarray(x, np.int64) << bits, am.INT32_MIN, am.INT32_MAX)


def exp_of_negative(a: np.ndarray) -> np.ndarray:
    """exp(a / 2^26) in 31 bits for int32 a <= 0."""
    a = np.asarray(a, np.int64)
    quarter = 1 << 24
    low = (a & (quarter - 1)) - quarter  # in [-1/4, 0)
    x = raised(low, INTEGER_BITS) + (1 << 28)  # + 1/8
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    thirds = high_product(divided(x4, 2) + x3, ONE_THIRD)
    series = x + divided(thirds + x2, 1)
    result = EXP_MINUS_EIGHTH + high_product(series, EXP_MINUS_EIGHTH)
    rest = low - a
    for position, power in enumerate(EXP_OF_POWERS):
        result = np.where(rest & (quarter << position), high_product(result, power), result)
    return np.where(a == 0, am.INT32_MAX, result)


def reciprocal(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """total in [2^19, 2^31) -> (r, n): 2^19 / total = r / 2^31 * 2^-n."""
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    half = ((total << (32 - bits)) - (1 << 31) + am.INT32_MAX + 1) // 2
    x = RECIPROCAL_START + high_product(half, RECIPROCAL_SLOPE)
    for _ in range(3):
        x = x + raised(high_product(x, (1 << 29) - high_product(half, x)), 2)
    return raised(x, 1), bits - 20


def softmax_args(graph: Graph, node: Node) -> dict[str, int]:
    """From differences of integers to 26 fractional bits; differences below `smallest` count as minus infinity."""
    x = graph[node.inputs[0]]
    real = node.attrs.get("beta", 1.0) * x.scale * (1 << (31 - INTEGER_BITS))
    if not real > 1:
        raise refuse(node, f"an input scale of {x.scale:.3g} with beta {node.attrs.get('beta', 1.0):g} is too small")
    multiplier, shift = am.quantize_multiplier(min(real, (1 << 31) - 1.0))
    smallest = -math.floor(((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / (1 << shift))
    return {"multiplier": multiplier, "shift": shift, "smallest": smallest}


@operator("softmax")
class Softmax(Operator):
    in_place = ((0, 0),)
    no_gradient = "only a softmax at the end of a model can be trained through: it becomes part of the loss"

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x = graph[node.inputs[0]]
        if x.shape[-1] > LONGEST_ROW:
            raise refuse(node, f"rows of {x.shape[-1]} elements; up to {LONGEST_ROW} are supported")
        softmax_args(graph, node)
        if node.outputs[0] in graph.tensors:
            y = graph[node.outputs[0]]
            if y.scale != 1 / 256 or y.zero_point != -128:
                raise refuse(node, f"its output has scale {y.scale:g}, zero point {y.zero_point}, not 1/256 and -128")
        return [(x.shape, "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        args = softmax_args(run.graph, node)
        x = inputs[0].reshape(-1, inputs[0].shape[-1]).astype(np.int64)
        distance = x - x.max(axis=1, keepdims=True)
        counts = distance >= args["smallest"]
        scaled = high_product(np.where(counts, distance, 0) << args["shift"], args["multiplier"])
        powers = np.where(counts, exp_of_negative(scaled), 0)
        total = divided(powers, SUM_INTEGER_BITS).sum(axis=1, keepdims=True)
        inverse, shift = reciprocal(total)
        y = divided(high_product(powers, inverse), shift + 31 - 8) - 128
        return [am.saturate(y, -128, 127).astype(np.int8).reshape(inputs[0].shape)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        return (inputs[0] * node.attrs.get("beta", 1.0)).softmax(-1)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x = graph[node.inputs[0]]
        args = {
            "x": Ref(x.name), "y": Ref(node.outputs[0]), "rows": x.size // x.shape[-1], "columns": x.shape[-1],
            **softmax_args(graph, node),
        }  # fmt: skip
        return KernelCall("tt_softmax_s8", args)
