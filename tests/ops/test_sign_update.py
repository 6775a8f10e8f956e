# SPDX-License-Identifier: Apache-2.0
"""sign_update: equals the oracle over extremes; every element moves by the rate, whatever its gradient's size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.ops.rules import cases, check, noisy_gradients, rule_graph, trajectory
from tinytrain.ops.training import Constants


@given(cases({}))
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_over_extremes(case):
    check("sign", case)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("scaling", ["qas", 0.01])
def test_every_element_moves_by_the_rate_of_the_update(scaling, batch):
    """With QAS in reals, else in the integer's steps, typically of 0.01. The batch's size changes nothing."""
    gradients, scales = noisy_gradients(2, 30, (6, 20)), np.linspace(0.01, 0.05, 6)
    gradients[:, 2, 3] = 0.0
    graph = rule_graph("sign", np.zeros((6, 20), np.int8), True, scales, Constants(), scaling=scaling)
    rate = 0.004 if scaling == "qas" else 0.0025
    got, _ = trajectory(graph, gradients, rate, scales, batch)
    unit = scales[:, None] / scaling if scaling != "qas" else 1.0
    want = -rate * unit * np.sign(gradients).cumsum(axis=0)
    np.testing.assert_allclose(got, want, atol=30 * 0.5 * scales.max() / 256 + 1e-9)
    assert not got[:, 2, 3].any()


def test_a_step_below_the_last_bit_is_taken_on_average():
    """Without masters a twentieth of a step is rounded at random."""
    graph = rule_graph("sign", np.zeros((40, 100), np.int8), False, 0.02, Constants())
    got, _ = trajectory(graph, np.ones((1, 40, 100)), 0.001, np.full(40, 0.02))
    assert set(np.unique(got).tolist()) == {-0.02, 0.0}
    assert abs(got.mean() + 0.001) < 5 * 0.02 * np.sqrt(0.05 / got.size)
