# SPDX-License-Identifier: Apache-2.0
"""momentum_update: equals the oracle over extremes, and torch.optim.SGD with momentum within its last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.ops.rules import cases, check, cosine, noisy_gradients, rule_graph, trajectory
from tests.training import machine_of
from tinytrain.graph import Phase
from tinytrain.ops.training import Constants

STATES = {
    "velocity": ("int16", None, [-32767, -1, 0, 1, 32767]),
    "velocity.exponent": (None, (1,), [-160, -30, 0, 100]),
}


@given(cases(STATES))
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_over_extremes(case):
    check("momentum", case, 0.9)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99])
def test_it_moves_as_torch_does(beta):
    torch = pytest.importorskip("torch")
    gradients, scales = noisy_gradients(1, 100, (6, 20)), np.linspace(0.01, 0.05, 6)
    graph = rule_graph("momentum", np.zeros((6, 20), np.int8), True, scales, Constants(beta))
    got, _ = trajectory(graph, gradients, 0.001 * (1 - beta) + 0.0002, scales)
    weight = torch.nn.Parameter(torch.zeros(6, 20, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], 0.001 * (1 - beta) + 0.0002, momentum=beta)
    for values, now in zip(gradients, got, strict=True):
        weight.grad = torch.tensor(values)
        optimizer.step()
        want = weight.detach().numpy()
        # each of 100 steps rounds by at most half a master's bit, one way or the other
        assert np.abs(now - want).max() < 0.01 * np.abs(want).max() + 15 * scales.max() / 256
    assert cosine(got[-1], want) > 0.998


def test_small_velocities_neither_stick_nor_vanish():
    """0.999 of a velocity that a plain int16 would round back to itself: after 1000 steps a share of 0.37 is left."""
    graph = rule_graph("momentum", np.zeros((8, 50), np.int8), True, 1.0, Constants(0.999))
    machine = machine_of(graph)
    machine.view("p.velocity")[:] = 40
    machine.view("p.velocity")[0, 0] = 32767  # one large element that holds the exponent
    machine.view("p.velocity.exponent")[0] = -10
    for step in range(1000):
        machine.view("hyper")[3] = step
        machine.run([Phase.APPLY])
    left = machine.view("p.velocity")[1:] * 2.0 ** int(machine.view("p.velocity.exponent")[0])
    assert left.mean() == pytest.approx(40 * 2**-10 * 0.999**1000, rel=0.1)


def test_it_decays_by_the_rate_of_the_update_not_of_a_sample():
    """A batch of 4: v by lr / 4, the weight's own share by lr."""
    scales = np.full(2, 0.05)
    weight = np.array([[100, -100, 50], [1, 0, -50]], np.int8)
    graph = rule_graph("momentum", weight, True, scales, Constants(0.0, weight_decay=0.5))
    got, _ = trajectory(graph, np.full((1, 2, 3), 0.4), 0.1, scales, batch=4)
    want = weight * 0.05 * (1 - 0.1 * 0.5) - 0.1 / 4 * 0.4
    np.testing.assert_allclose(got[0], want, atol=1.6 * 0.05 / 256)
