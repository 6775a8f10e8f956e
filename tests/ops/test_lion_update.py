# SPDX-License-Identifier: Apache-2.0
"""lion_update: equals the oracle over extremes, and goes where Lion in float goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.ops.rules import cases, check, cosine, noisy_gradients, rule_graph, trajectory
from tinytrain.ops.rules import signed_minifloat_values
from tinytrain.ops.training import Constants

STATES = {
    "momentum": ("int8", None, [-127, -8, -1, 0, 1, 7, 127]),
    "momentum.exponent": (None, (1,), [-160, -30, 0, 100]),
}


@given(cases(STATES))
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_over_extremes(case):
    for name in case["start"]:
        case["start"][name] = np.maximum(case["start"][name], -160 if name.endswith("exponent") else -127)
    check("lion", case, 0.9, 0.99)


def test_it_goes_where_lion_in_float_goes():
    gradients, scales = noisy_gradients(3, 150, (8, 40)), np.full(8, 0.02)
    graph = rule_graph("lion", np.zeros((8, 40), np.int8), True, scales, Constants(0.9, 0.99))
    got, machine = trajectory(graph, gradients, 0.002, scales)
    weight, momentum, agreed = np.zeros((8, 40)), np.zeros((8, 40)), []
    for values, before, now in zip(gradients, [np.zeros((8, 40)), *got[:-1]], got, strict=True):
        step = -0.002 * np.sign(0.9 * momentum + 0.1 * values)
        agreed.append((np.sign(now - before) == np.sign(step)).mean())
        weight += step
        momentum = 0.99 * momentum + 0.01 * values
    assert np.mean(agreed) > 0.97 and cosine(got[-1], weight) > 0.995
    kept = signed_minifloat_values(machine.view("p.momentum")) * 2.0 ** int(machine.view("p.momentum.exponent")[0])
    assert cosine(kept, momentum) > 0.97


def test_the_momentum_keeps_elements_of_very_different_size():
    """Over four decades each element is within an eighth or so of its own size, on average exactly."""
    sizes = np.logspace(0, -4, 40)
    graph = rule_graph("lion", np.zeros((50, 40), np.int8), True, 1.0, Constants(0.0, 0.0))
    _, machine = trajectory(graph, np.broadcast_to(sizes, (1, 50, 40)), 0.0, np.ones(50))
    kept = signed_minifloat_values(machine.view("p.momentum")) * 2.0 ** int(machine.view("p.momentum.exponent")[0])
    kept = kept * 0.02  # x's scale is not part of it
    np.testing.assert_allclose(kept, np.broadcast_to(sizes, (50, 40)), rtol=0.14)
    assert kept.mean(axis=0) == pytest.approx(sizes, rel=0.04)
