# SPDX-License-Identifier: Apache-2.0
"""Adam (Kingma and Ba, 2015) with two states of 8 bits (as Dettmers et al., 2022): w -= lr m^ / sqrt(v^).

m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2, corrected by 1 - beta1^t and 1 - beta2^t. There is no
epsilon: the smallest code of v, 2^-17 of the largest gradient when seen through the root, takes its place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Ref, State, operator
from tinytrain.ops.rules import (
    ONE,
    STATE_FLOOR,
    Move,
    RuleInputs,
    UpdateRule,
    beta_q16,
    minifloat_values,
    minifloats,
    mixed,
    signed_minifloat_values,
    signed_minifloats,
    state_shift,
)
from tinytrain.ops.updates import Part

# 2^18 / sqrt((8 + i % 8) * 2^(i // 8))
INVERSE_ROOTS = np.array([math.floor(2**18 / math.sqrt((8 + i % 8) << (i // 8)) + 0.5) for i in range(16)], np.int64)
# of |m| / sqrt(v), in 2^-16: exact arithmetic stays below 7.3 with the default rates
RATIO_LIMIT = 8 << 16
SECOND_FLOOR = 2 * STATE_FLOOR
POWER_ONE = 1 << 30


def second_mixed(codes: np.ndarray, exponent: int, beta: int, inputs: RuleInputs) -> tuple[np.ndarray, int]:
    """beta * v + (1 - beta) * g^2 -> (int64 values of at most 62 bits and a carry, their exponent)."""
    gradient, other = inputs.scaled(23)
    top = max(exponent, 2 * other)
    values = am.rounding_shift(minifloat_values(codes) * beta, top - exponent)
    return values + am.rounding_shift(gradient * gradient * (ONE - beta), top - 2 * other), top - 16


def ratios(first: np.ndarray, unit: int, codes: np.ndarray, exponent: int) -> np.ndarray:
    """first * 2^unit / sqrt(v) in 2^-16, v from its codes under `exponent`; the smallest code stands for zero."""
    codes = np.maximum(codes.astype(np.int64), 1)
    mantissa = np.where(codes < 8, codes, 8 + (codes & 7))
    power = exponent + np.where(codes < 8, 0, (codes >> 3) - 1)
    raised = 4 - am.bit_lengths(mantissa)  # a mantissa has four bits
    mantissa, power = mantissa << raised, power - raised
    odd = power & 1
    right = (power - odd) // 2 - unit + 18 - 16
    return am.saturate(
        am.rounding_shift(first * INVERSE_ROOTS[odd * 8 + mantissa - 8], right), -RATIO_LIMIT, RATIO_LIMIT
    )


def correction(powers: tuple[int, int]) -> am.LearningRate:
    """sqrt(1 - beta2^t) / (1 - beta1^t), rounded down, from the two powers in 2^-30."""
    rest1, rest2 = (POWER_ONE - power for power in powers)
    quotient = (math.isqrt(rest2 << 30) << 31) // rest1
    length = quotient.bit_length()
    mantissa = quotient >> (length - 31) if length > 31 else quotient << (31 - length)
    return am.LearningRate(mantissa, length - 31)


@operator("adam_update")
class AdamUpdate(UpdateRule):
    """m: sign, four bits of exponent, three of mantissa. v: five bits of exponent, three of mantissa."""

    kernel = "tt_adam_update_s8"
    states = (
        State("first", "int8"),
        State("second", "uint8"),
        State("moments", "int32", (4,), (STATE_FLOOR, SECOND_FLOOR, POWER_ONE, POWER_ONE)),
    )

    def move(self, inputs: RuleInputs) -> Move:
        first, second, state = inputs.states
        beta1, beta2 = (beta_q16(inputs.node.attrs[name]) for name in ("beta1", "beta2"))
        exact1, unit1 = mixed(signed_minifloat_values(first), int(state[0]), beta1, inputs, ONE - beta1)
        exact2, unit2 = second_mixed(second, int(state[1]), beta2, inputs)
        shift1, shift2 = state_shift(exact1, unit1, 18), state_shift(exact2, unit2, 34, SECOND_FLOOR)
        reduce = max(int(np.abs(exact1).max(initial=0)).bit_length() - 31, 0)
        powers = (int(state[2]) * beta1) >> 16, (int(state[3]) * beta2) >> 16
        state = np.array([unit1 + shift1, unit2 + shift2, *powers], np.int32)
        first = signed_minifloats(exact1, shift1, inputs.noise(Part.FIRST_STATE))
        codes = np.minimum(minifloats(exact2, shift2, inputs.noise(Part.SECOND_STATE)), 255)
        ratio = ratios(am.rounding_shift(exact1, reduce), unit1 + reduce, codes, int(state[1]))
        factor = correction(powers)
        mantissa, exponent = am.combine_multipliers(inputs.update_rate, factor.mantissa, factor.exponent)
        return Move(ratio, am.LearningRate(mantissa, exponent - 16), [first, codes.astype(np.uint8), state])

    def state_args(self, node: Node, states: list[str]) -> dict[str, Any]:
        betas = {name: beta_q16(node.attrs[name]) for name in ("beta1", "beta2")}
        return {"first": Ref(states[0]), "second": Ref(states[1]), "state": Ref(states[2]), **betas}
