# SPDX-License-Identifier: Apache-2.0
"""mean_squared_error: given targets and samples as targets; held to exact arithmetic, float64 and torch."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.losses import EDGES, UNIT, differences, given_target, loss_graph, run_loss, sample_target, torch_gradient
from tests.twins import no_undefined_behaviour, sanitized_runtime
from tinytrain.errors import GraphError
from tinytrain.graph import Graph, Role, Tensor
from tinytrain.host import machine as machine_module
from tinytrain.ops.mean_squared_error import factor_of, target_values

STEPS = 2  # the second one has the exponent of the first one's magnitudes
LARGEST = 2**31 - 1


def given_graph(outputs: int) -> Graph:
    return loss_graph("mean_squared_error", outputs, given_target(outputs), delayed=True)


def run(y: np.ndarray, target: np.ndarray, steps: int = STEPS) -> tuple[np.ndarray, int, float]:
    """(real gradient, loss, real value of a mantissa step), C and oracle agreeing."""
    inputs = {"y": y.astype(np.int32), "target": target.astype(np.int32)}
    mantissas, loss, predicted, exponent = run_loss(given_graph(y.size), inputs, steps)
    assert predicted == 0
    return mantissas * 2.0**exponent, loss, 2.0**exponent


def check(y: np.ndarray, target: np.ndarray) -> None:
    gradient, loss, unit = run(y, target)
    difference = [int(a) - int(b) for a, b in zip(y, target, strict=True)]
    exact = sum(Fraction(d, 65536) ** 2 for d in difference) / y.size
    # every square is rounded to half a unit, then the mean
    assert abs(Fraction(loss, 65536) - min(exact, Fraction(LARGEST, 65536))) <= Fraction(1, 65536)
    want = np.array([2 * d / y.size for d in difference]) * UNIT
    # half a step; the factor has 31 bits
    assert np.all(np.abs(gradient - want) <= unit / 2 + np.abs(want) * 2.0**-30)
    if any(difference) and unit > 2.0**-96:
        assert unit <= max(np.abs(want)) * 2.0**-13, "the exponent follows the largest difference"


@given(
    st.lists(
        st.tuples(*[st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), LARGEST))] * 2), min_size=1, max_size=9
    )
)
@settings(max_examples=150, deadline=None)
def test_outputs_and_targets_of_any_size(pairs):
    y, target = np.array(pairs, np.int64).T
    check(y, target)


@given(st.integers(1, 70), st.floats(-4, 4), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_outputs_as_they_occur(outputs, power, seed):
    rng = np.random.default_rng(seed)
    y, target = np.round(rng.normal(0, 10.0**power, (2, outputs)) * 65536).clip(-(2**31), LARGEST)
    check(y, target)


@pytest.mark.parametrize("outputs", [1, 3, 640])
def test_loss_and_gradient_are_torchs_and_the_difference_quotient(outputs):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(outputs)
    y, target = np.round(rng.normal(0, 4, (2, outputs)) * 65536)
    gradient, loss, unit = run(y, target)
    goal = torch.tensor(target * UNIT)
    want, value = torch_gradient(lambda out: torch.nn.functional.mse_loss(out, goal), y * UNIT)
    assert np.all(np.abs(gradient - want) <= unit / 2 + np.abs(want) * 2.0**-30)
    assert abs(loss * UNIT - value) <= UNIT
    quotient = differences(lambda out: float(((out - target * UNIT) ** 2).mean()), y * UNIT, 1e-4)
    assert np.all(np.abs(gradient - quotient) <= unit / 2 + 1e-8)


@pytest.mark.parametrize(
    "scale, zero_point", [(0.39101523, 89), (1 / 255, -128), (2.0**-20, 0), (100.0, -128), (1e4, 127)]
)
def test_a_sample_is_its_own_target(scale, zero_point):
    """The same bits as with its real values given in 2^-16."""
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 127, (2, 4, 3), endpoint=True).astype(np.int8)
    x.reshape(-1)[:2] = -128, 127
    compared = sample_target(x.shape, scale, zero_point)
    y = np.round(rng.normal(0, scale * 50, x.size) * 65536).clip(-(2**31), LARGEST).astype(np.int32)
    target = target_values(compared, x)
    exact = (x.reshape(-1).astype(np.float64) - zero_point) * scale * 65536
    np.testing.assert_allclose(target, exact.clip(-(2**31), LARGEST), rtol=2.0**-31, atol=0.5)
    graph = loss_graph("mean_squared_error", x.size, compared, delayed=True)
    mantissas, loss, _, exponent = run_loss(graph, {"y": y, "x": x}, STEPS)
    gradient, given_loss, _ = run(y, target)
    np.testing.assert_array_equal(mantissas * 2.0**exponent, gradient)
    assert loss == given_loss


def test_nothing_overflows_at_the_ends(monkeypatch, capfd):
    monkeypatch.setattr(machine_module, "runtime", sanitized_runtime)
    with no_undefined_behaviour(capfd):
        for outputs in (1, 2, 65535):
            low, high = np.full(outputs, -(2**31)), np.full(outputs, LARGEST)
            for y, target in ((low, high), (high, low), (high, high)):
                _, loss, _ = run(y, target)
                assert loss == (0 if y is target else LARGEST)
            far = np.zeros(outputs)
            far[-1] = LARGEST
            _, loss, _ = run(far, np.zeros(outputs))
            assert loss == min(LARGEST, round((LARGEST / 65536) ** 2 / outputs * 65536))


def test_small_differences_are_not_lost():
    """Squares are rounded one by one: what is below half a unit of 2^-16 counts as nothing, the gradient stays."""
    y = np.full(4, 181)
    gradient, loss, _ = run(y, np.zeros(4))
    assert loss == 0 and np.allclose(gradient, 2 / 4 * 181 * UNIT, rtol=2.0**-13)
    assert run(np.full(4, 182), np.zeros(4))[1] == 1


def test_the_first_step_of_an_unmeasured_exponent_saturates_and_the_second_does_not():
    y, target = np.array([5 << 16, -(3 << 16)]), np.zeros(2)
    first, _, _ = run(y, target, steps=1)
    assert np.abs(first).max() <= 2.0**-9 and np.sign(first).tolist() == [1, -1]
    second, _, _ = run(y, target, steps=2)
    assert second.tolist() == [5.0, -3.0]


@pytest.mark.parametrize("outputs", [1, 2, 3, 640, 65535])
def test_the_factor_is_two_by_the_number_of_outputs(outputs):
    multiplier, shift = factor_of(outputs)
    assert 2**30 <= multiplier < 2**31
    np.testing.assert_allclose(multiplier * 2.0 ** (shift - 31), 2 / outputs, rtol=2.0**-30)


def test_shapes_that_do_not_fit_are_refused():
    for compared in (given_target(3), sample_target((5,), 1.0, 0), Tensor("target", (4,), "int16", Role.STATE)):
        with pytest.raises(GraphError, match="loss"):
            loss_graph("mean_squared_error", 4, compared, delayed=True)
