# SPDX-License-Identifier: Apache-2.0
"""softmax: C kernel, oracle and LiteRT agree; rows of many equal classes; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import with_gradient
from tests.ops.litert import assert_equals_litert, float32
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization
from tinytrain.memory import lay_out

OUTPUT = (1 / 256, -128)
PAIRS = np.stack([np.full(256, 127), np.arange(-128, 128)], axis=1).astype(np.int8)


def graph_of(shape, scale, beta=1.0):
    fields = {"quantization": Quantization.per_tensor(*OUTPUT)}
    return one_node("softmax", {"x": activation("x", shape, scale, 5)}, {"beta": beta}, fields)


@given(st.floats(-4, 1), st.integers(1, 40), st.sampled_from([1.0, 0.5, 2.25]), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_equals_litert(exponent, columns, beta, near, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 8, (50, columns)).clip(-128, 127) if near else rng.integers(-128, 128, (50, columns))
    values = [(x.astype(np.int8), (float32(10**exponent), 5))]
    assert_equals_litert("softmax", "SOFTMAX", values, OUTPUT, {"beta": beta}, Beta=beta)


@pytest.mark.parametrize("scale", [0.003, 0.02, 0.07])
def test_many_rows_equal_litert(scale):
    """Enough results near the middle between two steps that a Newton step less would show."""
    x = np.random.default_rng(5).integers(-128, 128, (20000, 6)).astype(np.int8)
    assert_equals_litert("softmax", "SOFTMAX", [(x, (float32(scale), 0))], OUTPUT, {})


@pytest.mark.parametrize("scale", [1e-6, 0.004, 0.1, 0.5, 20.0])
def test_every_distance_equals_litert(scale):
    assert_equals_litert("softmax", "SOFTMAX", [(PAIRS, (float32(scale), 0))], OUTPUT, {})


@given(st.floats(1e-7, 1e3), st.integers(1, 4095), st.sampled_from([-128, 0, 127, None]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_kernel_equals_oracle(scale, columns, constant, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (2, columns)) if constant is None else np.full((2, columns), constant)
    assert_machines_equal_oracle(graph_of((2, columns), scale), {"x": x.astype(np.int8)})


@pytest.mark.parametrize("columns", [1, 2, 10, 500, 511, 512, 513, 1000, 4095])
@pytest.mark.parametrize("lead", [0, 30])
def test_result_is_within_a_step_of_the_float_softmax(columns, lead):
    """Also where LiteRT stops: rows whose sum of exponentials reaches 512."""
    x = np.zeros(columns, np.int8)
    x[columns // 2] = lead
    got = assert_machines_equal_oracle(graph_of((columns,), 0.1), {"x": x})["y"]
    power = np.exp(0.1 * x.astype(np.float64))
    want = np.minimum(256 * power / power.sum(), 255) - 128
    assert np.max(np.abs(got - want)) <= 0.51


def test_the_result_takes_over_the_input():
    assert lay_out(graph_of((3, 8), 0.1)).arena == 24


def test_gradient_is_refused():
    with pytest.raises(GraphError, match="softmax") as error:
        with_gradient(graph_of((8,), 0.1))
    assert "end of a model" in error.value.why


def test_rows_too_long_are_refused():
    with pytest.raises(GraphError, match="softmax"):
        graph_of((4096,), 0.1)


def test_a_scale_too_small_is_refused():
    with pytest.raises(GraphError, match="softmax"):
        graph_of((8,), 1e-9)
