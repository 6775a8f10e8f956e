# SPDX-License-Identifier: Apache-2.0
"""Gradients of an operator: build them as training does, run them in C and numpy, compare with the float operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.oracle import assert_machines_equal_oracle, gradient
from tinytrain.graph import Graph, verify
from tinytrain.ops import lookup
from tinytrain.ops.training import TrainingBuilder

MANTISSAS = ["int16", "int8"]
widths = st.sampled_from(MANTISSAS)
# how far a rounding moves a value, in units: half up, or stochastic
ROUNDING = {"int16": 0.5, "int8": 1.0}
STEPS = 3  # enough for delayed exponents to reach the magnitudes of the data


def with_gradient(forward: Graph, exponent: int = -12, dtype: str = "int16") -> tuple[Graph, list[str | None]]:
    """A forward graph of one node plus its gradient nodes; a graph input "gy" is the gradient of its output.

    dtype: of all mantissas
    """
    graph = forward.copy()
    (node,) = graph.nodes
    graph.add_tensor(gradient("gy", graph[node.outputs[0]].shape, exponent, dtype))
    graph.inputs.append("gy")
    build = TrainingBuilder(graph, gradient_dtype=dtype)
    results = lookup(node.op).gradient(build, node, "gy", True)
    graph.nodes[1:1] = [save for _, save in build.saves]
    graph.outputs = list(dict.fromkeys(name for name in results if name is not None))
    return verify(graph), results


def run_gradient(
    forward: Graph, samples: dict[str, np.ndarray], gy: np.ndarray
) -> tuple[list[np.ndarray], list[float], dict[str, np.ndarray]]:
    """(real gradients, real value of one mantissa step of each, all values), the C runtime and the oracle agreeing.

    gy: int16 or int8 mantissas; the gradients have as many bits
    """
    graph, names = with_gradient(forward, dtype=str(gy.dtype))
    values = assert_machines_equal_oracle(graph, {**samples, "gy": gy}, STEPS)
    units = [step_of(graph, values, name) for name in names if name is not None]
    reals = [values[name] * unit for name, unit in zip((n for n in names if n), units, strict=True)]
    return reals, units, values


def step_of(graph: Graph, values: dict[str, np.ndarray], name: str) -> float:
    """The real value of mantissa 1 of a gradient tensor."""
    exponent = graph[name].exponent
    assert exponent is not None
    return 2.0 ** (exponent.offset + (int(values[exponent.state][0]) if exponent.state else 0))


def real(graph: Graph, name: str, value: np.ndarray) -> np.ndarray:
    return (value.astype(np.float64) - graph[name].zero_point) * graph[name].scale


def real_clamp(graph: Graph, clamp: tuple[int, int]) -> tuple[float, float]:
    low, high = ((bound - graph["y"].zero_point) * graph["y"].scale for bound in clamp)
    return low, high


def away_from_bounds(graph: Graph, y: np.ndarray, clamp: tuple[int, int], gy: np.ndarray) -> np.ndarray:
    """gy without the elements whose real output lies within a step of a bound: there rounding decides the mask."""
    near = [np.abs(y - bound) <= graph["y"].scale for bound in real_clamp(graph, clamp)]
    return np.where(near[0] | near[1], 0, gy).astype(gy.dtype)


def finite_differences(
    function: Callable[..., Any], inputs: Sequence[np.ndarray], gy: np.ndarray, eps: float
) -> list[np.ndarray]:
    """Central differences of sum(gy * function(inputs)) by every element of every input."""
    gradients = []
    for position, x in enumerate(inputs):
        result = np.zeros(x.size)
        for index in range(x.size):
            sides = []
            for sign in (1, -1):
                moved = [value.copy() for value in inputs]
                moved[position].reshape(-1)[index] += sign * eps
                sides.append(float((gy * function(*moved)).sum()))
            result[index] = (sides[0] - sides[1]) / (2 * eps)
        gradients.append(result.reshape(x.shape))
    return gradients


def autograd(function: Callable[..., Any], inputs: Sequence[np.ndarray], gy: np.ndarray) -> list[np.ndarray] | None:
    """The same by torch, or None where torch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    leaves = [torch.tensor(value, requires_grad=True) for value in inputs]
    (function(*leaves) * torch.from_numpy(gy)).sum().backward()
    return [leaf.grad.numpy() for leaf in leaves]


def assert_is_the_float_gradient(
    got: Sequence[np.ndarray], function: Callable[..., Any], inputs: Sequence[np.ndarray], gy: np.ndarray,
    bounds: Sequence[np.ndarray | float], eps: float,
) -> None:  # fmt: skip
    """Against central differences of the float operator, and against torch; the function takes arrays of both."""
    for want in (finite_differences(function, inputs, gy, eps), autograd(function, inputs, gy)):
        for index, expected in enumerate(want or []):
            slack = 1e-5 * max(1e-12, float(np.abs(expected).max(initial=0)))
            worst = np.abs(got[index] - expected) - bounds[index]
            assert np.max(worst) <= slack, f"input {index}: {got[index].ravel()[:4]}, float {expected.ravel()[:4]}"
