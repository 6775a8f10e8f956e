# SPDX-License-Identifier: Apache-2.0
"""Clipping that is robust to spikes: no element counts for more than a few times what the largest one is on average.

This is the adaptive clipping of Stable-SPAM (Huang et al., 2025, AdaClip), per trained tensor and on integers. The mean
is over earlier gradients, so one pass is enough. Its state is three int32, {mantissa, exponent, count}: the mean is
mantissa * 2^exponent, mantissa 0 (no gradient seen yet) or in [2^30, 2^31).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Ref

PASSED = 8  # gradients that pass unclipped, while there is no mean to speak of
MOST_COUNTED = 32  # a new gradient changes the mean by a 32nd at least


def clip_limit(state: np.ndarray, exponent: int, factor: float) -> int | None:
    """The largest magnitude in units of 2^exponent, at least 1; None while gradients pass."""
    if int(state[2]) < PASSED:
        return None
    (multiplier,), (shift,) = am.normalized_multipliers(np.array([factor]))
    product = int(state[0]) * int(multiplier)
    return max(1, int(am.rounding_shift(np.array(product), exponent - int(state[1]) - int(shift) + 31)))


def clipped(sums: np.ndarray, exponent: int, state: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact sums in units of 2^exponent, int64, held within the limit; and the next state."""
    limit = clip_limit(state, exponent, factor)
    held = sums if limit is None else am.saturate(sums, -limit, limit)
    return held, next_mean(state, int(np.abs(held).max(initial=0)), exponent)


def next_mean(state: np.ndarray, largest: int, exponent: int) -> np.ndarray:
    """The mean after a gradient whose largest element was largest * 2^exponent; one of zeros does not count."""
    if largest == 0:
        return state.copy()
    count = min(int(state[2]) + 1, MOST_COUNTED)
    length = largest.bit_length()
    mantissa = largest >> (length - 31) if length > 31 else largest << (31 - length)
    exponent += length - 31
    if count > 1:
        top = max(exponent, int(state[1]))
        mean, value = int(state[0]) >> min(top - int(state[1]), 31), mantissa >> min(top - exponent, 31)
        mean += (value - mean) >> (count.bit_length() - 1)
        mantissa, exponent = mean << (31 - mean.bit_length()), top - 31 + mean.bit_length()
    return np.array([mantissa, exponent, count], np.int32)


def clip_args(graph: Graph, node: Node) -> dict[str, Any]:
    """The fields of struct tt_update about clipping; the state is the node's last input."""
    if "clip" not in node.attrs:
        return {"clip": None, "clip_multiplier": 0, "clip_shift": 0}
    (multiplier,), (shift,) = am.normalized_multipliers(np.array([node.attrs["clip"]]))
    return {"clip": Ref(graph.storage(node.inputs[-1])), "clip_multiplier": int(multiplier), "clip_shift": int(shift)}
