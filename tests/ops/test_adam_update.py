# SPDX-License-Identifier: Apache-2.0
"""adam_update: equals the oracle over extremes, and goes where torch.optim.Adam goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.rules import cases, check, cosine, noisy_gradients, rule_graph, trajectory
from tinytrain.ops.adam_update import correction, ratios
from tinytrain.ops.rules import minifloat_values, minifloats
from tinytrain.ops.training import Constants

STATES = {"first": ("int8", None, [-127, -1, 0, 1, 127]), "second": ("uint8", None, [0, 1, 7, 8, 255])}


@given(cases(STATES), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_kernel_equals_oracle_over_extremes(case, seed):
    rng = np.random.default_rng(seed)
    if "p.first" in case["start"]:
        case["start"]["p.first"] = np.maximum(case["start"]["p.first"], -127)
        powers = [int(rng.choice([0, 1, 2**20, 2**30])) for _ in range(2)]
        case["start"]["p.moments"] = [int(rng.choice([-160, -20, 90])), int(rng.choice([-320, -40, 180])), *powers]
    check("adam", case, *rng.choice([(0.9, 0.999), (0.0, 0.0), (0.99999, 0.99999)]))


def test_a_minifloat_is_its_value_on_average_and_within_an_eighth():
    rng = np.random.default_rng(0)
    for value in (0, 1, 7, 8, 15, 16, 17, 1000, 12345678, 15 << 30):
        values = np.full(4000, value, np.int64)
        got = minifloat_values(minifloats(values, 0, rng.integers(0, 2**32, 4000).astype(np.uint32)))
        assert np.abs(got - value).max() <= value / 8
        assert got.mean() == pytest.approx(value, rel=0.01)
    codes = np.arange(256)
    assert np.array_equal(minifloats(minifloat_values(codes), 0, np.full(256, 2**32 - 1, np.uint32)), codes)
    assert np.all(np.diff(minifloat_values(codes)) > 0)


def test_the_ratio_is_m_over_the_root_of_v():
    codes = np.arange(1, 256)
    for exponent in (-41, -40, 0, 7):
        first, unit = np.full(255, 1 << 24, np.int64), exponent // 2 - 20
        want = np.minimum(2.0 ** (24 + unit) / np.sqrt(minifloat_values(codes) * 2.0**exponent), 8.0)
        np.testing.assert_allclose(ratios(first, unit, codes, exponent) / 65536, want, rtol=2e-5, atol=2e-5)
    assert ratios(np.array([1]), 0, np.array([0]), 0) == ratios(np.array([1]), 0, np.array([1]), 0)


@pytest.mark.parametrize("steps", [1, 2, 10, 1000, 30000])
def test_the_correction_is_that_of_the_paper(steps):
    """Powers of the rates in 2^-16, rounded down in 2^-30 at each step."""
    beta1, beta2 = 58982, 65470
    powers = [1 << 30, 1 << 30]
    for _ in range(steps):
        powers = [(powers[0] * beta1) >> 16, (powers[1] * beta2) >> 16]
    want = math.sqrt(1 - (beta2 / 65536) ** steps) / (1 - (beta1 / 65536) ** steps)
    assert correction((powers[0], powers[1])).to_float() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 20, 300])
def test_it_goes_where_torch_goes(steps):
    torch = pytest.importorskip("torch")
    gradients, scales = noisy_gradients(4, steps, (8, 40)), np.linspace(0.01, 0.03, 8)
    graph = rule_graph("adam", np.zeros((8, 40), np.int8), True, scales, Constants(0.9, 0.999))
    got, _ = trajectory(graph, gradients, 0.001, scales)
    weight = torch.nn.Parameter(torch.zeros(8, 40, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], 0.001)
    for values in gradients:
        weight.grad = torch.tensor(values)
        optimizer.step()
    want = weight.detach().numpy()
    assert cosine(got[-1], want) > 0.995
    assert np.linalg.norm(got[-1]) == pytest.approx(np.linalg.norm(want), rel=0.05)
    # v has three bits of mantissa, rounded at random: an element's step is right to a few of them
    assert np.abs(got[-1] - want).max() < 0.3 * np.abs(want).max() + scales.max() / 256


def test_the_first_step_is_the_rate_in_every_direction():
    gradients, scales = noisy_gradients(5, 1, (8, 40)), np.full(8, 0.02)
    graph = rule_graph("adam", np.zeros((8, 40), np.int8), True, scales, Constants(0.9, 0.999))
    got, _ = trajectory(graph, gradients, 0.01, scales)
    seen = np.abs(gradients[0]) > 2.0**-12 * np.abs(gradients[0]).max()
    assert seen.mean() > 0.9
    np.testing.assert_allclose(got[0][seen], -0.01 * np.sign(gradients[0])[seen], rtol=0.08, atol=0.02 / 256)


def test_no_gradient_moves_nothing():
    graph = rule_graph("adam", np.full((8, 40), 5, np.int8), True, 0.02, Constants(0.9, 0.999))
    got, machine = trajectory(graph, np.zeros((50, 8, 40)), 0.5, np.full(8, 0.02))
    assert np.all(got == got[0]) and not machine.view("p.first").any() and not machine.view("p.second").any()
