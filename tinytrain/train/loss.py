# SPDX-License-Identifier: Apache-2.0
"""What training makes small. The losses themselves are operators (ops/softmax_cross_entropy.py and its neighbours)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tinytrain.errors import SchemeError

KINDS = ("cross_entropy", "binary_cross_entropy", "mean_squared_error")
TARGETS = ("input", "given")
WEIGHT_LIMITS = (0.001, 1000.0)  # of class weights: their gradients share one exponent


@dataclass(frozen=True)
class Loss:
    """A loss and its constants.

    kind:            "cross_entropy" of a softmax over the classes; "binary_cross_entropy" of one sigmoid, the label 0
                     or 1; "mean_squared_error" of the outputs
    label_smoothing: share in [0, 1) of the target probability that is spread over all classes (cross-entropies)
    class_weights:   a positive factor per class on loss and gradient (cross-entropies), or None
    target:          of "mean_squared_error": "input", the sample itself (auto-encoders), or "given" with each sample
    """

    kind: str = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    target: str = "input"

    def as_dict(self) -> dict[str, Any]:
        if self.kind == "mean_squared_error":
            return {"kind": self.kind, "target": self.target}
        weights = None if self.class_weights is None else list(self.class_weights)
        return {"kind": self.kind, "label_smoothing": self.label_smoothing, "class_weights": weights}

    def labels(self, outputs: int) -> int:
        """How many labels there are, from 0, for a model of so many outputs; 0 where a sample needs no label."""
        return {"cross_entropy": outputs, "binary_cross_entropy": 2, "mean_squared_error": 0}[self.kind]

    @property
    def needs_target(self) -> bool:
        """Whether every sample comes with values for the outputs."""
        return self.kind == "mean_squared_error" and self.target == "given"

    def check(self, outputs: int, where: str = "") -> None:
        """SchemeError unless a model of so many outputs can have this loss."""
        if self.kind == "cross_entropy" and outputs < 2:
            raise SchemeError(
                f"a classifier has at least 2 classes, here it is {outputs}", where=where,
                fix='"loss": "binary_cross_entropy" is for one output, "mean_squared_error" for values',
            )  # fmt: skip
        if self.kind == "binary_cross_entropy" and outputs != 1:
            raise SchemeError(f"a binary loss has one output, here it is {outputs}", where=where, fix='"classes": 1')
        if self.class_weights is not None and len(self.class_weights) != self.labels(outputs):
            raise SchemeError(
                f"{len(self.class_weights)} class_weights for {self.labels(outputs)} classes", where=where
            )


def parse_loss(entry: Any) -> Loss:
    """From a scheme's "loss": a kind, or an object with "kind" and constants. Errors: SchemeError."""
    entry = {"kind": entry} if isinstance(entry, str) else entry
    kind = entry.get("kind") if isinstance(entry, Mapping) else entry
    if not isinstance(entry, Mapping) or kind not in KINDS:
        raise SchemeError(f"there is no loss {kind!r}", fix=f'"loss": one of {", ".join(KINDS)}')
    squared = kind == "mean_squared_error"
    known = ["kind", "target"] if squared else [field.name for field in fields(Loss) if field.name != "target"]
    if unknown := sorted(set(entry) - set(known)):
        raise SchemeError(f"the loss '{kind}' has no field '{unknown[0]}'", fix=f"fields: {', '.join(known)}")
    weights = entry.get("class_weights")
    if weights is not None:
        low, high = WEIGHT_LIMITS
        if not isinstance(weights, list | tuple) or not all(_positive(w) and low <= w <= high for w in weights):
            raise SchemeError(f"class_weights are {weights!r}", why=f"they are one number per class, {low} to {high}")
        weights = tuple(float(weight) for weight in weights)
    made = Loss(kind, entry.get("label_smoothing", 0.0), weights, entry.get("target", "input"))
    if made.label_smoothing != 0 and not (_positive(made.label_smoothing) and made.label_smoothing < 1):
        raise SchemeError(f"a label_smoothing of {made.label_smoothing!r}", why="it must be in [0, 1)")
    if made.target not in TARGETS:
        raise SchemeError(f"there is no target {made.target!r}", fix=f'"target": {" or ".join(TARGETS)}')
    return made


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
