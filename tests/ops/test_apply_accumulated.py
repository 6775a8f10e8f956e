# SPDX-License-Identifier: Apache-2.0
"""apply_accumulated: the end of a batch equals the oracle, empties the accumulator, and is one step of the sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.update_graphs import hyper, update_graph
from tests.oracle import activation, assert_same, gradient
from tests.training import machine_of
from tinytrain.graph import Graph, Phase
from tinytrain.ops import evaluate, initial_values
from tinytrain.ops.training import HYPER

KINDS = [("int8", True), ("int8", False), ("int16", False), ("int32", True), ("int32", False)]
TRUNCATING = [("int8", None), ("int16", None), ("int32", None)]  # in place of "has a master"


def graph_of(value: np.ndarray, master: bool, scales=1e-3, exponent: int = -15, accumulate: bool = True) -> Graph:
    """A weight [N, M] of a layer of one pixel, or a bias [N]."""
    if value.ndim == 1:
        operands, op = [gradient("gy", value.shape, exponent)], "bias_update"
        attrs = {"x_scale": 1.0}
    else:
        operands = [activation("x", value.shape[1:], 0.02, 3), gradient("gy", value.shape[:1], exponent)]
        attrs = {"x_scale": 0.02, "block": (0, value.shape[0], 0, value.shape[1]), "kernel": (1, 1)}
        op = "conv2d_weight_update"
    return update_graph(op, operands, value, scales, attrs, master=master, accumulate=accumulate)


@given(st.sampled_from(KINDS + TRUNCATING), st.integers(0, 2**31), st.booleans())
@settings(max_examples=100, deadline=None)
def test_kernel_equals_oracle_over_extremes(kind, seed, extreme):
    (dtype, master), rng = kind, np.random.default_rng(seed)
    limit = {"int8": 127, "int16": 127 * 256, "int32": 2**31 - 1}[dtype]
    shape = (6,) if dtype == "int32" else (2, 3)
    value = rng.choice([-limit, 0, limit], shape) if extreme else rng.integers(-limit, limit, shape)
    graph = graph_of(value.astype(dtype), bool(master))
    graph.tensors["p"] = graph["p"].but(truncates=master is None)
    sums = rng.integers(-(2**31), 2**31 - 1, shape, endpoint=True)
    if extreme:
        sums = rng.choice([-(2**31), -(2**19), -1, 0, 1, 2**11, 2**31 - 1], shape)
    machine, persistent = machine_of(graph), initial_values(graph)
    fractions = rng.integers(-128, 128, shape) * (256 if dtype == "int32" else 1)
    for name, start in (("p.sum", sums), ("p.master", fractions)):
        if name in persistent:
            persistent[name][...] = start
            machine.view(name)[...] = start
    persistent[HYPER][:] = machine.view(HYPER)[:] = hyper(0.01, seed, 5)
    machine.run([Phase.APPLY])
    versions = {name: persistent[graph.storage(name)] for name, t in graph.tensors.items() if t.role.persistent}
    evaluate(graph, {}, versions, [Phase.APPLY])
    for name in persistent:
        assert_same(machine.view(name), persistent[name], name)
    assert not machine.view("p.sum").any()


@pytest.mark.parametrize("dtype,master", KINDS)
def test_a_batch_is_one_step_of_the_sum_of_its_gradients(dtype, master):
    """Against exact arithmetic: the parameter has moved by lr times the sum, to within one of its last bits."""
    rng = np.random.default_rng(3)
    shape = (4,) if dtype == "int32" else (4, 5)
    scales = rng.uniform(0.5, 2, 4) * {"int8": 0.02, "int16": 1e-4, "int32": 1e-4}[dtype]
    rate = 0.2 if dtype == "int8" else 0.02
    machine = machine_of(graph_of(np.zeros(shape, dtype), master, scales), rate)
    total = np.zeros(shape)
    for _ in range(8):
        gy = rng.integers(-20000, 20000, 4).astype(np.int16)
        machine.view("gy")[:] = gy
        step = gy * 2.0**-15
        if dtype != "int32":
            x = rng.integers(-128, 128, 5).astype(np.int8)
            machine.view("x")[:] = x
            step = step[:, None] * (x.astype(float) - 3) * 0.02
        total += step
        machine.run([Phase.UPDATE])
        assert not machine.view("p").any(), "nothing moves before the batch ends"
    machine.run([Phase.APPLY])
    want = -rate * total / (scales if dtype == "int32" else scales[:, None])
    got = machine.view("p").astype(float)
    if master:
        got += machine.view("p.master") / {"int8": 256, "int32": 65536}[dtype]
    stochastic = dtype != "int16" and not master
    bound = (
        1.01
        if stochastic
        else 0.51 / ({"int8": 256, "int16": 1, "int32": 256}[dtype] if master or dtype == "int16" else 1)
    )
    assert np.abs(want).max() > 3 * bound
    np.testing.assert_allclose(got, want, atol=bound + 8 * 2.0**-9)


def test_an_accumulator_saturates_instead_of_wrapping():
    machine = machine_of(graph_of(np.zeros(1, np.int32), True, [1e-9]), 1.0)
    for _ in range(3):
        machine.view("gy")[:] = -32768
        machine.run([Phase.UPDATE])
        assert machine.view("p.sum")[0] == -(2**31)
    machine.run([Phase.APPLY])
    assert machine.view("p")[0] == 2**31 / 256


def test_stochastic_rounding_at_the_end_of_a_batch_is_right_on_average():
    value = np.zeros((40, 100), np.int8)
    machine = machine_of(graph_of(value, False, 0.02))
    machine.view("p.sum")[:] = 3 << 18  # three quarters of a step
    machine.run([Phase.APPLY])
    moved = machine.view("p")
    assert set(np.unique(moved).tolist()) == {-1, 0}
    assert abs(moved.mean() + 0.75) < 5 * np.sqrt(0.75 * 0.25 / value.size)
