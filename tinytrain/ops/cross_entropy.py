# SPDX-License-Identifier: Apache-2.0
"""Smoothed targets and class weights in integers: what both cross-entropies share. C's twin: tinytrain/cross_entropy.h.

The loss of a sample of class c is weight[c] * sum over n of target[n] * -log(probability[n]), with target = smoothing /
classes everywhere and 1 - smoothing more at c. (torch.nn.functional.cross_entropy is the same for a sample where only
one of both is used; with both, it weighs each class's share of the smoothing by that class's own weight.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytrain.graph import Exponent
from tinytrain.ops import arithmetic as am

GRADIENT_EXPONENT = Exponent(None, -15)
BITS = 30  # of targets and factors


@dataclass(frozen=True)
class Constants:
    """Of a loss over `classes` classes.

    target_label, target_other: in 2^-30; of the label's class and of each other one, together exactly 1
    factors:  int32 [classes], weights in 2^-30 of 2^exponent, at most 2^30
    exponent: the power of two that the largest weight fits
    """

    target_label: int
    target_other: int
    factors: np.ndarray
    exponent: int

    @property
    def gradient_exponent(self) -> Exponent:
        """Gradients are weight * (probability - target): below 2^exponent, in 15 bits."""
        return GRADIENT_EXPONENT.shifted(self.exponent)

    @property
    def loss_shift(self) -> int:
        return BITS - self.exponent


def floating_loss(attrs: Mapping[str, Any], log_probability: Any, labels: Any) -> Any:
    """The losses [N] of a batch, with torch: log_probability [N, classes], labels int64 [N]."""
    classes, smoothing = log_probability.shape[1], attrs.get("label_smoothing", 0.0)
    own = log_probability.gather(1, labels[:, None])[:, 0]
    losses = -(1 - smoothing) * own - smoothing / classes * log_probability.sum(1)
    if weights := attrs.get("class_weights"):
        losses = losses * losses.new_tensor(weights)[labels]
    return losses


def constants(attrs: Mapping[str, Any], classes: int) -> Constants:
    """attrs: `label_smoothing` in [0, 1) and `class_weights`, from 0.001 to 1000, of the node, where it has them."""
    one = 1 << BITS
    other = math.floor(attrs.get("label_smoothing", 0.0) * one / classes)
    weights = np.asarray(attrs.get("class_weights") or np.ones(classes), np.float64)
    exponent = math.ceil(math.log2(weights.max()))
    factors = np.floor(weights / 2.0**exponent * one + 0.5).astype(np.int32)
    return Constants(one - (classes - 1) * other, other, factors, exponent)


def weighted_difference(probability: np.ndarray, target: np.ndarray | int, factor: int) -> np.ndarray:
    """(probability - target) * factor: 2^-15, 2^-30 and 2^-30 give int16 mantissas of 2^-15."""
    difference = np.asarray(probability, np.int64) * 32768 - target
    return am.saturate(am.rounding_shift(difference * factor, 45), -(1 << 15), (1 << 15) - 1).astype(np.int16)


def weighted_loss(spread: int, log_total: int, factor: int, right: int) -> int:
    """The loss in 2^-16, saturated before and after the weight. spread: the sum of target * distance in 2^-46."""
    loss = min(int(am.rounding_shift(np.asarray(spread), BITS)) + log_total, am.INT32_MAX)
    return min(int(am.rounding_shift(np.asarray(loss * factor), right)), am.INT32_MAX)
