# SPDX-License-Identifier: Apache-2.0
"""Update rules with a gradient of their own: what they share. Each rule is one file, ops/<rule>_update.py.

The gradient of a whole parameter lies in an int32 buffer: in the arena for one sample, in an accumulator for a batch.
A rule turns it and its states into a direction, and subtracts rate * direction from the parameter. States are block
floating point: mantissas with one exponent per tensor, which is found exactly, by a first pass over the buffer.
C's twin is tinytrain/optimizer.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, exponent_args
from tinytrain.ops.updates import (
    FRACTION_BITS,
    HYPER,
    Part,
    apply_delta,
    checked_multipliers,
    decay_args,
    decayed,
    gain_of,
    mode_of,
    noise_for,
    parameter_of,
    random_part,
)

STATE_FLOOR = -160  # the smallest exponent of a state
ZERO_EXPONENT = -400  # of a gradient that is zero throughout
ONE = 1 << 16  # beta1 and beta2 are in units of 2^-16


@dataclass(frozen=True)
class Move:
    """What a rule subtracts: rate * direction, direction an int64 array below 2^31; and its states from now on."""

    direction: np.ndarray
    rate: am.LearningRate
    states: list[np.ndarray]


@dataclass(frozen=True)
class RuleInputs:
    """What a rule sees: the gradient, gradient * 2^exponent in reals (times attribute x_scale), and its states."""

    run: Evaluation
    node: Node
    hyper: np.ndarray
    gradient: np.ndarray
    exponent: int
    states: list[np.ndarray]

    @property
    def sample_rate(self) -> am.LearningRate:
        """The learning rate of one sample's gradient."""
        return am.LearningRate(int(self.hyper[0]), int(np.int32(self.hyper[1])))

    @property
    def update_rate(self) -> am.LearningRate:
        return am.LearningRate(int(self.hyper[4]), int(np.int32(self.hyper[5])))

    def noise(self, part: Part) -> np.ndarray:
        return random_part(self.node, part, self.hyper, self.gradient.shape)

    def scaled(self, bits: int) -> tuple[np.ndarray, int]:
        """The gradient in so many bits, and its exponent."""
        largest = int(np.abs(self.gradient.astype(np.int64)).max(initial=0))
        if largest == 0:
            return np.zeros(self.gradient.shape, np.int64), ZERO_EXPONENT
        right = largest.bit_length() - bits
        return am.rounding_shift(self.gradient, right), self.exponent + right


def mixed(state: np.ndarray, exponent: int, beta: int, inputs: RuleInputs, gamma: int) -> tuple[np.ndarray, int]:
    """(beta * state + gamma * gradient) * 2^-16 -> (int64 values below 2^62, their exponent). |state| < 2^18."""
    gradient, other = inputs.scaled(31)
    top = max(exponent, other)
    values = am.rounding_shift(state.astype(np.int64) * beta, top - exponent - 14)
    return values + am.rounding_shift(gradient * gamma, top - other - 14), top - 30


def state_shift(values: np.ndarray, unit: int, bits: int, floor: int = STATE_FLOOR) -> int:
    """How far values in units of 2^unit move right to fit so many bits."""
    return max(int(np.abs(values).max(initial=0)).bit_length() - bits, 0, floor - unit)


def minifloats(magnitudes: np.ndarray, shift: int, noise: np.ndarray) -> np.ndarray:
    """Codes of magnitudes / 2^shift, rounded at random: 8 * exponent + mantissa, a mantissa of three bits."""
    drop = np.maximum(shift, am.bit_lengths(magnitudes) - 4)
    return (drop - shift) * 8 + am.stochastic_shift(magnitudes, drop, noise)


def minifloat_values(codes: np.ndarray) -> np.ndarray:
    codes = codes.astype(np.int64)
    return np.where(codes < 8, codes, (8 + (codes & 7)) << np.maximum((codes >> 3) - 1, 0))


def signed_minifloats(values: np.ndarray, shift: int, noise: np.ndarray) -> np.ndarray:
    codes = np.minimum(minifloats(np.abs(values), shift, noise), 127)
    return np.where(values < 0, -codes, codes).astype(np.int8)


def signed_minifloat_values(codes: np.ndarray) -> np.ndarray:
    return np.sign(codes) * minifloat_values(np.abs(codes.astype(np.int64)))


def beta_q16(beta: float) -> int:
    """A decay rate in [0, 1) in 2^-16; never 1."""
    return min(math.floor(beta * ONE + 0.5), ONE - 1)


class UpdateRule(Operator):
    """Inputs (hyper, gradient or accumulator, parameter, master?, states...), outputs their next versions.

    A gradient that is an accumulator becomes zero; one in the arena has no next version.
    """

    kernel = ""
    # whether the direction is a gradient: then the step depends on its size, else only on the rate
    linear = False

    def move(self, inputs: RuleInputs) -> Move:
        raise NotImplementedError

    def state_args(self, node: Node, states: list[str]) -> dict[str, Any]:
        """Kernel arguments beside `step`; states: names of the state tensors in order."""
        return {}

    def multipliers(self, graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """Steps of the parameter's last bit per unit of rate * direction, per channel."""
        parameter = parameter_of(graph, node)
        assert parameter.quantization is not None
        scale = parameter.quantization.scale
        gain = gain_of(node, scale)
        if not self.linear and node.attrs.get("scaling", "qas") != "qas":
            gain = gain / scale * float(node.attrs["scaling"])  # a direction has no size that a scale could change
        unit = node.attrs["x_scale"] if self.linear else 1.0
        return checked_multipliers(node, unit * gain * 2.0 ** FRACTION_BITS[mode_of(parameter)])

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(tensor.shape, tensor.dtype) for tensor in graph.outs(node)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        hyper, gradient, *rest = inputs
        parameter = parameter_of(run.graph, node)
        count = 2 if parameter.master else 1
        targets, states = rest[:count], rest[count:]
        seen = RuleInputs(run, node, hyper, gradient, run.exponent(node.inputs[1]), states)
        move = self.move(seen)
        mode = mode_of(parameter)
        channels = np.indices(gradient.shape)[(parameter.quantization.axis or 0) if parameter.quantization else 0]
        pairs = [am.combine_multipliers(move.rate, int(m), int(s)) for m, s in zip(*self.multipliers(run.graph, node))]
        mantissa, exponent = (np.array([pair[i] for pair in pairs], np.int64)[channels] for i in (0, 1))
        delta = am.scaled_delta(move.direction, 0, mantissa, exponent, noise_for(node, mode, hyper, gradient.shape))
        delta = decayed(node, mode, hyper, targets, delta)
        cleared = [np.zeros_like(gradient)] if parameter.accumulator else []
        return [*cleared, *apply_delta(mode, delta, targets), *move.states]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        parameter = parameter_of(graph, node)
        assert parameter.quantization is not None
        gradient = graph[node.inputs[1]]
        axis = parameter.quantization.axis or 0
        multipliers, shifts = self.multipliers(graph, node)
        step = {
            "parameter": Ref(parameter.name), "master": Ref(parameter.master) if parameter.master else None,
            "gradient": Ref(gradient.name), "hyper": Ref(HYPER), "multiplier": multipliers, "shift": shifts,
            **exponent_args("gradient", gradient.exponent), "outer": math.prod(parameter.shape[:axis]),
            "channels": parameter.shape[axis], "inner": math.prod(parameter.shape[axis + 1 :]),
            **decay_args(node), "stream": node.attrs["stream"], "mode": int(mode_of(parameter)),
            "clear": int(parameter.accumulator is not None),
        }  # fmt: skip
        states = list(node.inputs[len(node.inputs) - len(self.states) :]) if self.states else []
        return KernelCall(self.kernel, {"step": step, **self.state_args(node, states)})
