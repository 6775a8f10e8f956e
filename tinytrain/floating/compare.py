# SPDX-License-Identifier: Apache-2.0
"""How near two gradients are."""

from __future__ import annotations

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two arrays: 1 for the same direction, and for two that are both zero."""
    size = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    if size == 0:
        return 1.0 if not np.any(a) and not np.any(b) else 0.0
    return float((a * b).sum()) / size


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """|got - want| / |want|, Euclidean; 0 where both are zero."""
    size, error = float(np.linalg.norm(want)), float(np.linalg.norm(got - want))
    return error / size if size else (0.0 if error == 0 else float("inf"))
