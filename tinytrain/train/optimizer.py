# SPDX-License-Identifier: Apache-2.0
"""Which rule turns gradients into changes of the parameters. The rules themselves are operators (ops/*_update.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tinytrain.errors import SchemeError

KINDS = ("sgd", "momentum", "sign", "lion", "adam")
STATEFUL = ("momentum", "lion", "adam")
# beta1 and beta2 where a scheme does not say: the values of the methods' papers
DEFAULT_BETAS = {
    "sgd": (0.0, 0.0),
    "momentum": (0.9, 0.0),
    "sign": (0.0, 0.0),
    "lion": (0.9, 0.99),
    "adam": (0.9, 0.999),
}


@dataclass(frozen=True)
class Optimizer:
    """An update rule and its constants.

    kind:         "sgd": no state. "momentum": int16 velocity. "sign": the sign of the gradient, no state.
                  "lion": the sign of a mix of gradient and momentum, 8-bit state (Chen et al., 2023).
                  "adam": two 8-bit states (Kingma and Ba, 2015; Dettmers et al., 2022).
                  The learning rate of sign, lion and adam is the step of a weight in reals.
    beta1, beta2: decay rates in [0, 1)
    weight_decay: decoupled (Loshchilov and Hutter, 2019): a weight loses the share lr * weight_decay in each update
    clip:         None, or: no element of a sample's gradient counts for more than `clip` times the running mean of the
                  largest element of earlier ones (the adaptive clipping of Stable-SPAM, Huang et al., 2025)
    stateful:     share of each trained weight's channels, those of largest norm, that follow the rule; the rest goes by
                  "sign" and keeps no state (FRUGAL, Zmushko et al., 2024). Biases and the classifier follow the rule
    """

    kind: str = "sgd"
    beta1: float = 0.0
    beta2: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    stateful: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_optimizer(entry: Any) -> Optimizer:
    """From a scheme's "optimizer": a kind, or an object with "kind" and constants. Errors: SchemeError."""
    given = entry
    entry = {"kind": entry} if isinstance(entry, str) else entry
    known = [field.name for field in fields(Optimizer)]
    if not isinstance(entry, Mapping) or entry.get("kind") not in KINDS:
        raise SchemeError(f"there is no optimizer {given!r}", fix=f'"optimizer": one of {", ".join(KINDS)}')
    if unknown := sorted(set(entry) - set(known)):
        raise SchemeError(f"an optimizer has no field '{unknown[0]}'", fix=f"fields: {', '.join(known)}")
    beta1, beta2 = DEFAULT_BETAS[entry["kind"]]
    made = Optimizer(**{"beta1": beta1, "beta2": beta2, **entry})
    for name in ("beta1", "beta2"):
        _check(name, getattr(made, name), lambda value: 0 <= value < 1, "in [0, 1)")
    _check("weight_decay", made.weight_decay, lambda value: 0 <= value <= 1, "in [0, 1]")
    _check("stateful", made.stateful, lambda value: 0 < value <= 1, "in (0, 1]")
    if made.stateful != 1 and made.kind not in STATEFUL:
        raise SchemeError(f'"{made.kind}" keeps no state to share', fix=f'"stateful" is for {", ".join(STATEFUL)}')
    if made.clip is not None:
        _check("clip", made.clip, lambda value: 0 < value <= 1024, "in (0, 1024], or null")
    return made


def _check(name: str, value: Any, within: Callable[[float], bool], text: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not within(value):
        raise SchemeError(f"the optimizer's {name} is {value!r}", why=f"it must be {text}")
