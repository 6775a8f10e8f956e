# SPDX-License-Identifier: Apache-2.0
"""Clipping: ordinary gradients pass untouched, a spike moves a parameter by no more than its bound, for every rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.update_graphs import hyper, update_graph
from tests.oracle import assert_machines_equal_oracle, gradient
from tests.training import machine_of
from tinytrain.graph import Graph, Phase
from tinytrain.ops.clipping import MOST_COUNTED, PASSED, clip_limit, next_mean
from tinytrain.ops.training import HYPER, Constants

START = np.zeros(3, np.int32)


def biases(clip: float | None, rule: str = "sgd", accumulate: bool = False, exponent: int = -15) -> Graph:
    """Eight biases of scale 1e-4 with their gradient."""
    return update_graph(
        "bias_update", [gradient("gy", (4, 8), exponent)], np.zeros(8, np.int32), 1e-4, {"x_scale": 1.0},
        master=True, rule=rule, accumulate=accumulate, constants=Constants(0.9, 0.99, clip=clip),
    )  # fmt: skip


def moves(graph: Graph, gradients: np.ndarray, rate: float) -> np.ndarray:
    """How far each bias moved, in reals, after each of int16 gradients [T, 4, 8]."""
    machine, seen = machine_of(graph, rate), []
    for step, gy in enumerate(gradients):
        machine.view(HYPER)[3] = step
        machine.view("gy")[...] = gy
        machine.run([Phase.UPDATE, Phase.APPLY])
        seen.append((machine.view("p") + machine.view("p.master") / 65536) * 1e-4)
    return np.diff(np.array(seen), axis=0, prepend=0)


@given(
    st.sampled_from(["sgd", "momentum", "sign", "lion", "adam"]), st.booleans(),
    st.sampled_from([0.01, 1.0, 3.7, 1024.0]), st.integers(0, 2**31), st.sampled_from([-96, -15, 60]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_over_extremes(rule, accumulate, clip, seed, exponent):
    rng = np.random.default_rng(seed)
    graph = biases(clip, rule, accumulate, exponent)
    state = np.array([rng.integers(2**30, 2**31 - 1), rng.integers(-150, 150), rng.choice([1, 7, 8, 31, 32])], np.int32)
    graph.tensors["p.clip"] = graph["p.clip"].but(data=state if seed % 3 else None)
    gy = rng.choice(np.array([-32768, -1, 0, 0, 1, 32767], np.int16), (4, 8))
    if seed % 2:
        gy = rng.integers(-300, 300, (4, 8)).astype(np.int16)
    assert_machines_equal_oracle(graph, {"gy": gy, HYPER: hyper(0.01, seed)}, steps=3)


@pytest.mark.parametrize("accumulate", [False, True])
def test_ordinary_gradients_pass_untouched(accumulate):
    """Sums of a like size in every step: with and without a clip the same bits."""
    gy = np.random.default_rng(0).integers(-3000, 3000, (60, 4, 8)).astype(np.int16)
    plain, clipped = (moves(biases(clip, accumulate=accumulate), gy, 0.01) for clip in (None, 3.0))
    assert np.array_equal(plain, clipped)


@pytest.mark.parametrize("rule", ["sgd", "momentum"])
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_spike_of_a_thousand_times_moves_no_more_than_the_bound(rule, accumulate):
    """And what comes after it is not held back: the spike raised the mean by a few of its own parts only."""
    gy = np.random.default_rng(1).integers(-30, 30, (80, 4, 8)).astype(np.int16)
    gy[50] *= 1000
    clipped = np.abs(moves(biases(3.0, rule, accumulate), gy, 0.01)).max(axis=1)
    free = np.abs(moves(biases(None, rule, accumulate), gy, 0.01)).max(axis=1)
    largest = np.abs(gy[:50].astype(int).sum(axis=1)).max() * 2.0**-15 * 0.01
    bound = 3 * largest * (10 if rule == "momentum" else 1)
    assert free[50] > 50 * bound / (10 if rule == "momentum" else 1)
    assert clipped[50] <= bound
    after = slice(56, None)
    if rule == "sgd":
        np.testing.assert_allclose(clipped[after], free[after], atol=1e-9)


def test_the_first_gradients_pass_and_the_mean_follows():
    state = START
    for index in range(PASSED):
        assert clip_limit(state, 0, 2.0) is None
        state = next_mean(state, 1000, 0)
        assert state[2] == index + 1
    assert clip_limit(state, 0, 2.0) == 2000 and clip_limit(state, 3, 2.0) == 250 and clip_limit(state, 40, 2.0) == 1
    assert np.array_equal(next_mean(state, 0, 5), state), "a gradient of zeros does not count"
    for _ in range(200):
        limit = clip_limit(state, 0, 2.0)
        state = next_mean(state, min(limit, 10**6), 0)
    assert clip_limit(state, 0, 2.0) > 30 * 2000 and state[2] == MOST_COUNTED, "what stays large is let through in time"


def test_the_mean_is_a_mean():
    rng, state, mean = np.random.default_rng(2), START, 0.0
    for count in range(1, 300):
        largest, exponent = int(rng.integers(1, 2**40)), int(rng.integers(-30, 30)) // 10
        state = next_mean(state, largest, exponent)
        weight = 1.0 if count == 1 else 2.0 ** -(min(count, 32).bit_length() - 1)
        mean += (largest * 2.0**exponent - mean) * weight
        assert float(state[0]) * 2.0 ** int(state[1]) == pytest.approx(mean, rel=1e-6)
