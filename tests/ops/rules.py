# SPDX-License-Identifier: Apache-2.0
"""Update rules by themselves: one parameter whose accumulated gradient the test writes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.ops.update_graphs import update_graph
from tests.oracle import activation, assert_same, gradient
from tests.training import machine_of
from tinytrain.graph import Graph, Phase
from tinytrain.host import Machine
from tinytrain.ops import evaluate, initial_values
from tinytrain.ops.training import Constants
from tinytrain.ops.updates import HYPER, accumulated_exponent

X_SCALE = 0.02
UNIT = X_SCALE * 2.0 ** accumulated_exponent(X_SCALE)  # of an accumulated gradient, in reals
KINDS = [("int8", True), ("int8", False), ("int16", False), ("int32", True), ("int32", False)]
LIMITS = {"int8": 127, "int16": 127 * 256, "int32": 2**31 - 1}
FRACTIONS = {("int8", True): 256, ("int32", True): 65536}


def rule_graph(rule: str, value: np.ndarray, master: bool, scales: Any, constants: Constants, **options: Any) -> Graph:
    """A trained weight [N, M] of a layer of one pixel, or a bias [N], whose gradient is accumulated."""
    if value.ndim == 1:
        operands, op, attrs = [gradient("gy", value.shape)], "bias_update", {"x_scale": X_SCALE}
    else:
        operands = [activation("x", value.shape[1:], X_SCALE, 3), gradient("gy", value.shape[:1])]
        attrs = {"x_scale": X_SCALE, "block": (0, value.shape[0], 0, value.shape[1]), "kernel": (1, 1)}
        op = "conv2d_weight_update"
    return update_graph(
        op, operands, value, scales, {**attrs, **options}, master=master, accumulate=True, rule=rule,
        constants=constants,
    )  # fmt: skip


def states_of(graph: Graph) -> list[str]:
    """What a rule changes: the parameter, its fraction, and the rule's states."""
    return [name for name, tensor in graph.tensors.items() if tensor.role.persistent and tensor.alias_of is None]


def assert_applies_alike(graph: Graph, rate: float, seed: int, gradients: list[np.ndarray], start: dict) -> Machine:
    """Batches on the host and in numpy, with equal results to the bit; `start`: values of states to begin with."""
    machine, persistent = machine_of(graph, rate, seed), initial_values(graph)
    for name, value in start.items():
        persistent[name][...] = machine.view(name)[...] = value
    for step, values in enumerate(gradients):
        machine.view(HYPER)[3] = step
        persistent[HYPER][:] = machine.view(HYPER)
        persistent["p.sum"][...] = machine.view("p.sum")[...] = values
        machine.run([Phase.APPLY])
        versions = {name: persistent[graph.storage(name)] for name, t in graph.tensors.items() if t.role.persistent}
        evaluate(graph, {}, versions, [Phase.APPLY])
        for name in states_of(graph):
            assert_same(machine.view(name), persistent[name], f"after batch {step}: {name}")
        assert not machine.view("p.sum").any()
    return machine


@st.composite
def cases(draw: Any, kind_states: dict[str, tuple[Any, tuple[int, ...] | None, list[int]]]) -> dict[str, Any]:
    """Parameters, gradients and states from the ordinary to the ends of their ranges."""
    dtype, master = draw(st.sampled_from(KINDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (5,) if dtype == "int32" else (2, 3)
    limit = LIMITS[dtype]
    extreme = draw(st.booleans())
    value = rng.choice([-limit, 0, limit], shape) if extreme else rng.integers(-limit, limit, shape)
    start = {}
    if master:
        start["p.master"] = rng.integers(-128, 128, shape) * (256 if dtype == "int32" else 1)
    if extreme or draw(st.booleans()):
        for name, (own, extent, ends) in kind_states.items():
            low, high = (ends[0], ends[-1]) if own is None else (np.iinfo(own).min, np.iinfo(own).max)
            size = extent or shape
            start[f"p.{name}"] = rng.choice(ends, size) if extreme else rng.integers(low, high, size, endpoint=True)
    gradients = []
    for _ in range(3):
        if draw(st.booleans()):
            gradients.append(rng.choice([-(2**31), -1, 0, 1, 2**31 - 1], shape))
        else:
            gradients.append(rng.integers(-(2**20), 2**20, shape) >> draw(st.integers(0, 20)))
    rate = draw(st.sampled_from([0.0, 2.0**-40, 1e-3, 0.5, 3e38]))
    return {
        "value": value.astype(dtype), "master": master, "start": start, "gradients": gradients, "rate": rate,
        "seed": draw(st.integers(0, 2**31)), "scales": rng.uniform(1e-4, 0.1, shape[0]),
        "decay": draw(st.sampled_from([0.0, 1e-4, 1.0])) if dtype != "int32" else 0.0,
    }  # fmt: skip


def check(rule: str, case: dict[str, Any], beta1: float = 0.0, beta2: float = 0.0) -> None:
    constants = Constants(beta1, beta2, case["decay"])
    graph = rule_graph(rule, case["value"], case["master"], case["scales"], constants)
    assert_applies_alike(graph, case["rate"], case["seed"], case["gradients"], case["start"])


def trajectory(
    graph: Graph, gradients: np.ndarray, rate: float, scales: np.ndarray, batch: int = 1
) -> tuple[np.ndarray, Machine]:
    """The parameter in reals after each of `gradients` [T, N, M], given in reals."""
    machine = machine_of(graph, rate)
    machine.set_learning_rate(rate, batch)
    seen = []
    for step, values in enumerate(gradients):
        machine.view(HYPER)[3] = step
        machine.view("p.sum")[...] = np.round(values / UNIT)
        machine.run([Phase.APPLY])
        now = machine.view("p").astype(float)
        if "p.master" in graph.tensors:
            now += machine.view("p.master") / 256
        seen.append(now * scales[:, None])
    return np.array(seen), machine


def noisy_gradients(seed: int, steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """A drift of its own for each element, over noise, with magnitudes over three decades between elements."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-3, 0, shape)
    return size * (rng.normal(0, 0.7, shape) + rng.normal(0, 1, (steps, *shape)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
