# SPDX-License-Identifier: Apache-2.0
"""Descent by the sign of the gradient (signSGD, Bernstein et al., 2018): w -= lr sign(g). No state."""

from __future__ import annotations

import numpy as np

from tinytrain.ops.operator import operator
from tinytrain.ops.rules import Move, RuleInputs, UpdateRule


@operator("sign_update")
class SignUpdate(UpdateRule):
    """A gradient of exactly zero moves nothing."""

    kernel = "tt_sign_update_s32"

    def move(self, inputs: RuleInputs) -> Move:
        return Move(np.sign(inputs.gradient.astype(np.int64)), inputs.update_rate, [])
