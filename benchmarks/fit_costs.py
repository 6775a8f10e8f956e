# SPDX-License-Identifier: Apache-2.0
"""Fits tinytrain/planner/costs.json to counts of emulated boards. Run as `make bench BENCH=--fit`.

Every kernel's calls, of several models and schemes, give one equation each. Per kernel, and per window of a kernel
where there are enough calls, the non-negative combination of a few features is taken that predicts each call best from
the rest. Works that were not fitted to are estimated at the end, and how far off that is stands in the file.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from works import MCUNET, Work, head_only, with_all

from tinytrain.boards import load
from tinytrain.graph import Phase
from tinytrain.planner import costs
from tinytrain.program import Row
from tinytrain.train import Loss, Optimizer

BOARDS = ("rp2040", "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547")
MOST_TERMS = 4
ENOUGH_CALLS = 6  # different ones, for coefficients of their own
LARGEST_CALL = 0.3, 2000  # what may not depend on a call's size: a share of the cheapest one's cost, or so much
PREFERRED = ("mac", "read", "write", "weight", "vector", "narrow", "call")  # of features that predict equally well
TINY = "mlperf_tiny/"
KWS, RESNET, AUTO, VWW = (f"{TINY}{name}.tflite" for name in ("kws_dscnn_int8", "ic_resnet8_int8", "ad01_int8",
                                                               "vww_96_int8"))  # fmt: skip
FITTED = (
    MCUNET,
    Work("kws", "kws_dscnn, all weights", KWS, with_all(), ()),
    Work("kws8", "kws_dscnn, 8-bit gradients, lion", KWS, with_all(gradients="int8", optimizer=Optimizer("lion")), ()),
    Work("kws-adam", "kws_dscnn, adam in batches", KWS, with_all(accumulate=True, optimizer=Optimizer("adam")), ()),
    Work("resnet", "ic_resnet8, all weights, momentum", RESNET, with_all(optimizer=Optimizer("momentum")), ()),
    Work("auto", "ad01, all weights", AUTO, with_all(loss=Loss("mean_squared_error")), ()),
)
CHECKED_ON = ("mps2-an385", "mps2-an500", "mps3-an547")
HELD_OUT = (
    Work("vww96", "vww_96, all weights", VWW, with_all(), CHECKED_ON),
    Work("vww", "mcunet_vww_int8, the classifier", "tinyengine/mcunet_vww_int8.tflite", head_only, CHECKED_ON),
)
Sample = tuple[Row, int]


def fit(boards: Sequence[str] = BOARDS) -> dict[str, Any]:
    """The whole of costs.json."""
    works = [work for work in FITTED if _usable(work)]
    checks = [work for work in HELD_OUT if _usable(work)]
    document: dict[str, Any] = {
        "command": "make bench BENCH=--fit",
        "fitted": [work.title for work in works],
        "cores": {},
    }
    for board in boards:
        samples, overheads = [], []
        for work in works:
            counted = measured(work, board)
            samples += counted
            forward = [n for row, n in counted if row.phase is Phase.FORWARD]  # the same whenever it is counted
            overheads.append((work.profile(board).inference - sum(forward)) / len(forward))
        row = round(max(0.0, float(np.median(overheads))), 2)
        kernels = fitted_kernels(samples)
        model = costs.CostModel(row, kernels)
        entry = {"row": row, "kernels": kernels, "fitted_error": {}, "held_out_error": {}}
        for key, group in (("fitted_error", works), ("held_out_error", checks)):
            for work in group:
                if group is checks and board not in work.boards:
                    continue
                profile, found = work.profile(board), model.estimate(work.program)
                entry[key][work.title] = {
                    "inference": round(found.inference / profile.inference - 1, 4),
                    "train_step": round(found.train_step / profile.train_step - 1, 4),
                }
        document["cores"][load(board).core] = entry
        print(f"{load(board).core}: {entry['fitted_error']} {entry['held_out_error']}", file=sys.stderr, flush=True)
    return document


def _usable(work: Work) -> bool:
    if work.missing:
        print(f"not fitted: {work.title}: {work.missing}", file=sys.stderr)
    return work.missing is None


def fitted_kernels(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Coefficients by label, by kernel, and for any kernel.

    A window of which there are few calls gets the kernel's coefficients, scaled to what its own calls cost.
    """
    by_kernel, by_label = _grouped(samples, lambda row: row.kernel), _grouped(samples, lambda row: row.label)
    found = {costs.ANY: combination(samples)}
    found |= {kernel: combination(group) for kernel, group in by_kernel.items()}
    for label, group in by_label.items():
        own = _different(group) >= ENOUGH_CALLS
        found[label] = combination(group) if own else scaled(found[group[0][0].kernel], group)
    return dict(sorted(found.items()))


def _grouped(samples: Sequence[Sample], key: Callable[[Row], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for row, count in samples:
        groups[key(row)].append((row, count))
    return groups


def _different(samples: Sequence[Sample]) -> int:
    return len({tuple(sorted(costs.features(row).items())) for row, _ in samples})


def scaled(terms: Mapping[str, float], samples: Sequence[Sample]) -> dict[str, float]:
    """The terms, times what the samples cost over what the terms give for them."""
    given = sum(sum(value * costs.features(row).get(name, 0.0) for name, value in terms.items()) for row, _ in samples)
    factor = sum(count for _, count in samples) / given
    return {name: _rounded(value * factor) for name, value in terms.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def combination(samples: Sequence[Sample]) -> dict[str, float]:
    """The few non-negative coefficients that predict every sample best when it is left out."""
    alike: dict[tuple[tuple[str, float], ...], list[int]] = defaultdict(list)
    for row, count in samples:
        alike[tuple(costs.features(row).items())].append(count)
    given = [dict(each) for each in alike]
    counts = np.array([float(np.mean(each)) for each in alike.values()])
    names = [name for name in PREFERRED if any(each.get(name) for each in given)]
    columns = {name: np.array([each.get(name, 0.0) for each in given]) for name in names}
    weights = 1 / np.sqrt(counts)
    best: tuple[float, dict[str, float]] | None = None
    most = min(MOST_TERMS, max(1, len(given) // 2))
    for terms in (chosen for size in range(1, most + 1) for chosen in itertools.combinations(names, size)):
        if terms == ("call",):
            continue  # a call that costs the same whatever its size is no model
        matrix = np.stack([columns[name] for name in terms], 1) * weights[:, None]
        solved = _left_out(matrix, counts * weights)
        if solved is None or (best is not None and solved[0] >= 0.98 * best[0]):
            continue
        found = {name: _rounded(value) for name, value in zip(terms, solved[1], strict=True)}
        if found.get("call", 0.0) <= max(LARGEST_CALL[0] * counts.min(), LARGEST_CALL[1]):
            best = solved[0], found
    assert best is not None
    return best[1]


def _left_out(matrix: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray] | None:
    """(squared error of predictions without the sample itself, coefficients); None where one would be negative."""
    scale = np.linalg.norm(matrix, axis=0)
    if not scale.all():
        return None
    u, s, vt = np.linalg.svd(matrix / scale, full_matrices=False)
    if s[-1] < 1e-9 * s[0]:
        return None
    solution = vt.T @ ((u.T @ target) / s) / scale
    if (solution < 0).any():
        return None
    leverage = np.minimum((u * u).sum(1), 0.999)
    return float((((target - matrix @ solution) / (1 - leverage)) ** 2).sum()), solution


def measured(work: Work, board: str) -> list[Sample]:
    """The rows of a step with their instructions."""
    rows = [row for row in work.program.rows if row.phase in costs.STEP]
    return list(zip(rows, (row.instructions for row in work.profile(board).rows), strict=True))


def write(document: Mapping[str, Any]) -> None:
    costs.PATH.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {costs.PATH}", file=sys.stderr)
