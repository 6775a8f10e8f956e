# SPDX-License-Identifier: Apache-2.0
"""Lion (Chen et al., 2023): w -= lr sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Node
from tinytrain.ops.operator import Ref, State, operator
from tinytrain.ops.rules import (
    ONE,
    STATE_FLOOR,
    Move,
    RuleInputs,
    UpdateRule,
    beta_q16,
    mixed,
    signed_minifloat_values,
    signed_minifloats,
    state_shift,
)
from tinytrain.ops.updates import Part


@operator("lion_update")
class LionUpdate(UpdateRule):
    """The momentum is 8 bits: sign, four bits of exponent, three of mantissa."""

    kernel = "tt_lion_update_s8"
    states = (State("momentum", "int8"), State("momentum.exponent", "int32", (1,), (STATE_FLOOR,)))

    def move(self, inputs: RuleInputs) -> Move:
        codes, exponent = inputs.states
        beta1, beta2 = (beta_q16(inputs.node.attrs[name]) for name in ("beta1", "beta2"))
        momentum = signed_minifloat_values(codes)
        direction, _ = mixed(momentum, int(exponent[0]), beta1, inputs, ONE - beta1)
        exact, unit = mixed(momentum, int(exponent[0]), beta2, inputs, ONE - beta2)
        shift = state_shift(exact, unit, 18)
        codes = signed_minifloats(exact, shift, inputs.noise(Part.FIRST_STATE))
        return Move(np.sign(direction), inputs.update_rate, [codes, np.array([unit + shift], np.int32)])

    def state_args(self, node: Node, states: list[str]) -> dict[str, Any]:
        betas = {name: beta_q16(node.attrs[name]) for name in ("beta1", "beta2")}
        return {"momentum": Ref(states[0]), "exponent": Ref(states[1]), **betas}
