# SPDX-License-Identifier: Apache-2.0
"""Gradient descent with momentum (Polyak, 1964, as torch.optim.SGD states it): v = beta1 v + g, w -= lr v."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Ref, State, operator
from tinytrain.ops.rules import ONE, STATE_FLOOR, Move, RuleInputs, UpdateRule, beta_q16, mixed, state_shift
from tinytrain.ops.updates import Part


@operator("momentum_update")
class MomentumUpdate(UpdateRule):
    """The velocity is int16. The learning rate is that of one sample: the gradients of a batch are summed."""

    kernel = "tt_momentum_update_s16"
    states = (State("velocity", "int16"), State("velocity.exponent", "int32", (1,), (STATE_FLOOR,)))
    linear = True

    def move(self, inputs: RuleInputs) -> Move:
        velocity, exponent = inputs.states
        exact, unit = mixed(velocity, int(exponent[0]), beta_q16(inputs.node.attrs["beta1"]), inputs, ONE)
        shift = state_shift(exact, unit, 15)
        rounded = am.stochastic_shift(exact, shift, inputs.noise(Part.FIRST_STATE))
        velocity = am.saturate(rounded, -am.INT16_MAX, am.INT16_MAX).astype(np.int16)
        rate = inputs.sample_rate
        rate = am.LearningRate(rate.mantissa, rate.exponent + unit + shift)
        return Move(velocity.astype(np.int64), rate, [velocity, np.array([unit + shift], np.int32)])

    def state_args(self, node: Node, states: list[str]) -> dict[str, Any]:
        return {"velocity": Ref(states[0]), "exponent": Ref(states[1]), "beta": beta_q16(node.attrs["beta1"])}
