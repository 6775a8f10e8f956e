# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent on integers: how an exact sum of gradient products becomes a change of a parameter.

The sum is a real gradient G in known units. A weight with scale s changes by lr * G / s of its own integer steps: this
is "quantization-aware scaling" (On-Device Training Under 256KB Memory, section 3.1), folded into one multiplier per
channel. What is smaller than a step is kept: in a master (fractional bits beside the parameter), or on average by
stochastic rounding, or in an accumulator until the batch is complete. The modes that truncate lose it; they are there
to be compared with.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Node, Role, Tensor
from tinytrain.ops import arithmetic as am
from tinytrain.ops.clipping import clip_args, clipped
from tinytrain.ops.operator import Evaluation, Ref, Structs, exponent_args

if TYPE_CHECKING:
    from tinytrain.ops.training import TrainingBuilder

HYPER = "hyper"  # uint32[6]: a sample's learning rate (mantissa, exponent), seed, step, an update's learning rate
HYPER_START = np.array([0, 0, 1, 0, 0, 0], np.uint32)


class Mode(enum.IntEnum):
    """What an update changes; the numbers are those of enum tt_update_mode in C."""

    MASTER8 = 0  # int8 weight with an int8 master of 8 fractional bits
    STOCHASTIC8 = 1  # int8 weight, stochastic rounding
    WEIGHT16 = 2  # int16 weight (the classifier), in [-127 * 256, 127 * 256]
    BIAS = 3  # int32 bias with an int16 master of 16 fractional bits
    BIAS_STOCHASTIC = 4  # int32 bias, stochastic rounding
    ACCUMULATE = 5  # int32 accumulator
    TRUNCATE8 = 6  # int8 weight, rounded toward zero
    TRUNCATE16 = 7  # int16 weight, rounded toward zero
    TRUNCATE_BIAS = 8  # int32 bias, rounded toward zero
    STORE = 9  # int32 gradient for an update rule of its own
    STOCHASTIC16 = 10  # int16 weight as WEIGHT16, stochastic rounding: for rules of their own


class Part(enum.IntEnum):
    """Random words of one node that have nothing to do with each other."""

    PARAMETER = 0
    DECAY = 1
    FIRST_STATE = 2
    SECOND_STATE = 3


FRACTION_BITS = {
    Mode.MASTER8: 8, Mode.STOCHASTIC8: 0, Mode.WEIGHT16: 0, Mode.BIAS: 16, Mode.BIAS_STOCHASTIC: 0,
    Mode.STOCHASTIC16: 0, Mode.TRUNCATE8: 16, Mode.TRUNCATE16: 16, Mode.TRUNCATE_BIAS: 16,
}  # fmt: skip
WEIGHT_LIMIT = {
    Mode.MASTER8: 127, Mode.STOCHASTIC8: 127, Mode.WEIGHT16: 127 * 256, Mode.TRUNCATE8: 127, Mode.TRUNCATE16: 127 * 256,
    Mode.STOCHASTIC16: 127 * 256,
}  # fmt: skip
TRUNCATING = {"int8": Mode.TRUNCATE8, "int16": Mode.TRUNCATE16, "int32": Mode.TRUNCATE_BIAS}
# fractional bits of an accumulator, in steps of its parameter's integers
ACCUMULATOR_BITS = {"int8": 20, "int16": 12, "int32": 8}
# fractional bits of an accumulated gradient for a rule of its own, which may be as large as 1024 in reals
GRADIENT_BITS = 20
# the fields of struct tt_hyper with a learning rate of 1, for gradients that shall not depend on it
ONE = {"mantissa": 1 << 30, "exponent": 1, "seed": 0, "step": 0, "update_mantissa": 1 << 30, "update_exponent": 1}


def mode_of(parameter: Tensor) -> Mode:
    """How a trained parameter is updated, from its dtype and whether it has a master or truncates."""
    if parameter.truncates:
        return TRUNCATING[parameter.dtype]
    if parameter.dtype == "int16":
        return Mode.WEIGHT16 if parameter.rule == "sgd" else Mode.STOCHASTIC16
    if parameter.dtype == "int32":
        return Mode.BIAS if parameter.master else Mode.BIAS_STOCHASTIC
    return Mode.MASTER8 if parameter.master else Mode.STOCHASTIC8


def parameter_of(graph: Graph, node: Node) -> Tensor:
    """The parameter an update node is about (its first target may be the accumulator)."""
    return graph[node.attrs["parameter"]]


def step_factors(graph: Graph, node: Node) -> np.ndarray:
    """Change of the target's integer per unit of (lr * real gradient sum), float64 per channel.

    The sum of gy * (x - zero point) is in units of the gradient times x's scale: attribute `x_scale` (1 for a bias).
    """
    parameter = parameter_of(graph, node)
    assert parameter.quantization is not None
    if parameter.rule != "sgd":
        return np.full(parameter.quantization.scale.shape, 2.0 ** -accumulated_exponent(node.attrs["x_scale"]))
    bits = ACCUMULATOR_BITS[parameter.dtype] if parameter.accumulator else FRACTION_BITS[mode_of(parameter)]
    return node.attrs["x_scale"] * gain_of(node, parameter.quantization.scale) * 2.0**bits


def gain_of(node: Node, scale: np.ndarray) -> np.ndarray:
    """Steps of a parameter's integer per real step, over its channels: 1 / scale with quantization-aware scaling.

    Without it the integer is the variable and its gradient is scale * gradient; attribute `scaling` is then the typical
    scale of the network, by which the rate is measured, so that only the differences between channels are missing.
    """
    typical = node.attrs.get("scaling", "qas")
    return 1.0 / scale if typical == "qas" else scale / float(typical) ** 2


def accumulated_exponent(x_scale: float) -> int:
    """Power of two of an accumulated gradient's unit, in reals divided by x's scale."""
    return -GRADIENT_BITS - math.frexp(x_scale)[1]


def target_mode(graph: Graph, node: Node) -> Mode:
    """What an UPDATE node changes."""
    parameter = parameter_of(graph, node)
    if parameter.accumulator:
        return Mode.ACCUMULATE
    return mode_of(parameter) if parameter.rule == "sgd" else Mode.STORE


def gradient_of(node: Node) -> str:
    """The gradient an UPDATE node sums over."""
    return node.inputs[0 if node.op == "bias_update" else 1]


def total_shift(graph: Graph, node: Node) -> int:
    """Right shift that brings any possible sum into 31 bits and a sign."""
    gy = graph[gradient_of(node)]
    channels = gy.shape[-1]
    largest = gy.size // channels * (1 << (am.mantissa_bits(gy.dtype) - 1)) * (1 if node.op == "bias_update" else 255)
    return max(0, largest.bit_length() - 31)


def channel_multipliers(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Multiplier and shift per channel, range-checked: a factor that integers cannot hold is refused."""
    return checked_multipliers(node, step_factors(graph, node))


def checked_multipliers(node: Node, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalized multipliers of one factor per channel; SchemeError where one is beyond 2^+-120."""
    if not np.all(np.isfinite(factors)) or np.any(factors <= 0) or np.any(np.abs(np.log2(factors)) > 120):
        worst = int(np.argmax(np.abs(np.log2(np.maximum(factors, 1e-300)))))
        raise SchemeError(
            f"'{node.origin}' cannot be trained: channel {worst} has the update factor {factors[worst]:.3g}",
            why="its weight scale is zero, infinite or out of the range of the update arithmetic",
            fix="leave this layer out of the scheme",
        )
    return am.normalized_multipliers(factors)


def add_updates(
    build: TrainingBuilder,
    node: Node,
    gy: str,
    op: str,
    blocks: Sequence[tuple[int, ...]],
    kernel: tuple[int, int],
    reads: Sequence[tuple[int, int]] | None = None,
    **extra: Any,
) -> None:
    """Add update nodes for the bias and for each trained weight block of a layer with inputs (x, bias, blocks...).

    reads: the input channels (start, count) of each block; by default the last two numbers of the block
    extra: attributes of the weights' update nodes
    """
    graph = build.graph
    x, bias, *weights = node.inputs
    reads = [(block[-2], block[-1]) for block in blocks] if reads is None else reads
    total = max(start + count for start, count in reads)
    for index, (weight, block, channels) in enumerate(zip(weights, blocks, reads, strict=True)):
        if graph[weight].role is Role.PARAMETER:
            kept = build.saved(node, x, channels, total)
            attrs = {
                "block": block, "kernel": kernel, "x_scale": graph[x].scale, **extra,
                **{key: node.attrs[key] for key in ("strides", "padding", "scaling") if key in node.attrs},
            }  # fmt: skip
            build.update(op, node, f"update{index or ''}", weight, [kept, gy], **attrs)
    if graph[bias].role is Role.PARAMETER:
        scaling = {"scaling": node.attrs["scaling"]} if "scaling" in node.attrs else {}
        build.update("bias_update", node, "update.bias", bias, [gy], x_scale=1.0, **scaling)


def updated(
    run: Evaluation, node: Node, sums: np.ndarray, hyper: np.ndarray, targets: list[np.ndarray]
) -> list[np.ndarray]:
    """Next versions of an update node's targets; sums: exact int64 gradient sums in the target's shape."""
    graph = run.graph
    mode = target_mode(graph, node)
    if "clip" in node.attrs:
        sums, clip = clipped(sums, run.exponent(gradient_of(node)), targets[-1], node.attrs["clip"])
        return [*changed(run, node, mode, sums, hyper, targets[:-1]), clip]
    return changed(run, node, mode, sums, hyper, targets)


def changed(
    run: Evaluation, node: Node, mode: Mode, sums: np.ndarray, hyper: np.ndarray, targets: list[np.ndarray]
) -> list[np.ndarray]:
    """Next versions of the targets of sums that are clipped already."""
    graph = run.graph
    parameter = parameter_of(graph, node)
    assert parameter.quantization is not None
    if mode is Mode.STORE:
        reduced = am.rounding_shift(sums, total_shift(graph, node))
        return [am.saturate(reduced, am.INT32_MIN, am.INT32_MAX).astype(np.int32)]
    channels = np.indices(sums.shape)[parameter.quantization.axis or 0]
    multipliers, shifts = channel_multipliers(graph, node)
    lr = am.LearningRate(int(hyper[0]), int(np.int32(hyper[1])))
    if parameter.rule != "sgd":
        lr = am.LearningRate(ONE["mantissa"], ONE["exponent"])
    combined = [am.combine_multipliers(lr, int(m), int(s)) for m, s in zip(multipliers, shifts, strict=True)]
    mantissa = np.array([c[0] for c in combined], np.int64)[channels]
    exponent = np.array([c[1] for c in combined], np.int64)[channels] + run.exponent(gradient_of(node))
    noise = noise_for(node, mode, hyper, sums.shape)
    delta = am.scaled_delta(sums, total_shift(graph, node), mantissa, exponent, noise)
    return apply_delta(mode, decayed(node, mode, hyper, targets, delta), targets)


def noise_for(node: Node, mode: Mode, hyper: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    if mode not in (Mode.STOCHASTIC8, Mode.STOCHASTIC16, Mode.BIAS_STOCHASTIC):
        return None
    return random_part(node, Part.PARAMETER, hyper, shape)


def random_part(node: Node, part: Part, hyper: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One random word for each element."""
    stream = node.attrs["stream"] | part << 24
    return am.random_words(int(hyper[2]), stream, int(hyper[3]), int(np.prod(shape))).reshape(shape)


def decay_multiplier(node: Node) -> tuple[int, int]:
    """The weight decay of a node's parameter as a normalized multiplier and shift; (0, 0) without any."""
    multipliers, shifts = am.normalized_multipliers(np.array([node.attrs.get("weight_decay", 0.0)]))
    return int(multipliers[0]), int(shifts[0])


def decay_args(node: Node) -> dict[str, int]:
    return dict(zip(("decay_multiplier", "decay_shift"), decay_multiplier(node), strict=True))


def decayed(node: Node, mode: Mode, hyper: np.ndarray, targets: list[np.ndarray], delta: np.ndarray) -> np.ndarray:
    """delta and what a weight decays by: the update's rate * weight decay * weight, rounded at random."""
    multiplier, shift = decay_multiplier(node)
    if multiplier == 0 or mode is Mode.ACCUMULATE:
        return delta
    rate = am.LearningRate(int(hyper[4]), int(np.int32(hyper[5])))
    mantissa, exponent = am.combine_multipliers(rate, multiplier, shift)
    weight = targets[0].astype(np.int64) << FRACTION_BITS[mode]
    weight += targets[1] if mode is Mode.MASTER8 else 0
    noise = random_part(node, Part.DECAY, hyper, weight.shape)
    decay = am.stochastic_shift(weight * mantissa, 31 - exponent, noise)
    return am.saturate(delta, -(1 << 60), 1 << 60) + am.saturate(decay, -(1 << 60), 1 << 60)


def apply_delta(mode: Mode, delta: np.ndarray, targets: list[np.ndarray]) -> list[np.ndarray]:
    """targets - delta (an accumulator adds it), saturating; delta is in units of the target's last bit."""
    first = targets[0].astype(np.int64)
    if mode is Mode.ACCUMULATE:
        return [
            am.saturate(first + am.saturate(delta, am.INT32_MIN, am.INT32_MAX), am.INT32_MIN, am.INT32_MAX).astype(
                np.int32
            )
        ]
    if mode in (Mode.STOCHASTIC8, Mode.WEIGHT16, Mode.STOCHASTIC16):
        limit = WEIGHT_LIMIT[mode]
        return [am.saturate(first - am.saturate(delta, -(1 << 30), 1 << 30), -limit, limit).astype(targets[0].dtype)]
    if mode is Mode.BIAS_STOCHASTIC:
        return [
            am.saturate(first - am.saturate(delta, -(1 << 48), 1 << 48), am.INT32_MIN, am.INT32_MAX).astype(np.int32)
        ]
    bits = FRACTION_BITS[mode]
    limit = WEIGHT_LIMIT.get(mode, am.INT32_MAX) << bits
    fine = (first << bits) + (0 if mode in TRUNCATING.values() else targets[1])
    fine = am.saturate(fine - am.saturate(delta, -(1 << 48), 1 << 48), -limit, limit)
    if mode in TRUNCATING.values():
        return [(np.sign(fine) * (np.abs(fine) >> bits)).astype(targets[0].dtype)]
    coarse = (fine + (1 << (bits - 1))) >> bits
    return [coarse.astype(targets[0].dtype), (fine - (coarse << bits)).astype(targets[1].dtype)]


def update_args(graph: Graph, node: Node) -> dict[str, Any]:
    """The fields of struct tt_update."""
    parameter = parameter_of(graph, node)
    mode = target_mode(graph, node)
    multipliers, shifts = (None, None) if mode is Mode.STORE else channel_multipliers(graph, node)
    direct = mode not in (Mode.ACCUMULATE, Mode.STORE)
    gy = graph[gradient_of(node)]
    return {
        "parameter": Ref(parameter.name) if direct else None,
        "master": Ref(parameter.master) if parameter.master and direct else None,
        "accumulator": None if direct else Ref(parameter.accumulator or node.outputs[0]),
        "hyper": Ref(HYPER) if parameter.rule == "sgd" else Structs("tt_hyper", (ONE,)),
        "multiplier": multipliers, "shift": shifts, "mode": int(mode),
        "stream": node.attrs["stream"], "total_shift": total_shift(graph, node),
        **exponent_args("gy", gy.exponent), **decay_args(node), **clip_args(graph, node),
    }  # fmt: skip
