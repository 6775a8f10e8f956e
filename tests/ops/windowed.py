# SPDX-License-Identifier: Apache-2.0
"""What the tests of operators with sliding windows share: cases, their float definition, layers that are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinytrain.graph import Graph, Quantization, Role, Tensor
from tinytrain.ops.arithmetic import LearningRate
from tinytrain.ops.training import HYPER
from tinytrain.ops.updates import ACCUMULATOR_BITS

Case = dict[str, Any]
RATE = 0.01

zero_points = st.sampled_from([-128, -3, 0, 127])
_FIELDS = {
    "size": st.tuples(st.integers(1, 7), st.integers(1, 7)),
    "channels": st.integers(1, 9),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(*[st.integers(0, 2)] * 4),
    "zero_point": zero_points,
    "extreme": st.booleans(),
    "seed": st.integers(0, 2**31),
}


def cases(**more: Any) -> Any:
    """Windows over small images, as dicts."""
    return st.fixed_dictionaries({**_FIELDS, **more}).filter(lambda case: min(outputs_of(case)) > 0)


def pool_cases(**more: Any) -> Any:
    """The same, where every window has a cell inside the image."""
    return cases(**more).filter(lambda case: cells_of(case).min() > 0)


def outputs_of(case: Case) -> tuple[int, int]:
    (h, w), (kh, kw), (top, bottom, left, right) = case["size"], case["kernel"], case["padding"]
    sh, sw = case["strides"]
    return (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1


def window_attrs(case: Case) -> dict[str, Any]:
    return {"strides": case["strides"], "padding": case["padding"]}


def selection(case: Case) -> np.ndarray:
    """Which pixel each cell of each window is: 0 or 1, float64[OH, OW, KH KW, H W]; padded cells are none."""
    (h, w), (kh, kw), (top, _, left, _), (sh, sw) = (case[key] for key in ("size", "kernel", "padding", "strides"))
    chosen = np.zeros((*outputs_of(case), kh * kw, h * w))
    for oy, ox, cell in np.ndindex(chosen.shape[:3]):
        y, x = oy * sh + cell // kw - top, ox * sw + cell % kw - left
        if 0 <= y < h and 0 <= x < w:
            chosen[oy, ox, cell, y * w + x] = 1
    return chosen


def cells_of(case: Case) -> np.ndarray:
    """How many cells of each window are pixels, [OH, OW]."""
    return selection(case).sum(axis=(2, 3))


def cells(case: Case, x: Any) -> Any:
    """x [H, W, C], numpy or torch -> [OH, OW, KH KW, C], padded with zeros."""
    return like(x, selection(case)) @ x.reshape(-1, x.shape[-1])


def like(x: Any, array: np.ndarray) -> Any:
    """`array` as the kind of array x is."""
    return array if isinstance(x, np.ndarray) else x.new_tensor(array)


def integers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, extreme: bool, low: int | None = None
) -> np.ndarray:
    """Random integers over the whole range of a type (or from `low` on), or its ends alone."""
    info = np.iinfo(dtype)
    ends = np.array([info.min if low is None else low, info.max], dtype)
    if extreme:
        return rng.choice(ends, shape)
    return rng.integers(ends[0], ends[1], shape, dtype, endpoint=True)


def with_trained(graph: Graph, names: list[str], how: str, rate: float = RATE) -> Graph:
    """The graph with some constants trained. how: "master", "stochastic" or "sum" (accumulated; nothing changes)."""
    graph = graph.copy()
    lr = LearningRate.from_float(rate)
    rate = [lr.mantissa, lr.exponent & 0xFFFFFFFF]
    hyper = np.array([*rate, 7, 1, *rate], np.uint32)
    graph.add_tensor(Tensor(HYPER, hyper.shape, "uint32", Role.STATE, data=hyper))
    for name in names:
        tensor = graph[name].but(role=Role.PARAMETER)
        if how == "master":
            fraction = {"int8": "int8", "int32": "int16"}[tensor.dtype]
            tensor = tensor.but(master=f"{name}.master")
            graph.add_tensor(Tensor(f"{name}.master", tensor.shape, fraction, Role.MASTER))
        if how == "sum":
            tensor = tensor.but(accumulator=f"{name}.sum")
            graph.add_tensor(Tensor(f"{name}.sum", tensor.shape, "int32", Role.OPTIMIZER))
        graph.tensors[name] = tensor
    return graph


def bias_meaning(x: Tensor, scales: np.ndarray) -> Quantization:
    return Quantization(x.scale * scales, 0, 0)


def summed_gradient(graph: Graph, name: str, value: np.ndarray, steps: int) -> np.ndarray:
    """The real gradient behind an accumulator, which holds `steps` times rate * gradient / scale."""
    quantization, bits = graph[name].quantization, ACCUMULATOR_BITS[graph[name].dtype]
    assert quantization is not None
    shape = [1] * value.ndim
    shape[quantization.axis or 0] = -1
    return value / 2.0**bits / steps / RATE * quantization.scale.reshape(shape)
