# SPDX-License-Identifier: Apache-2.0
"""bias_update: the C kernel equals the oracle in every mode, and a bias moves by lr * gradient / scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import widths
from tests.ops.update_graphs import run, update_graph
from tests.ops.windowed import integers
from tests.oracle import gradient

cases = st.fixed_dictionaries(
    {
        "shape": st.sampled_from(
            [(1,), (7,), (1, 1, 3), (5, 4, 6), (3, 3, 1), (2, 3, 15), (3, 2, 75), (70,), (3, 1, 40), (5, 8)]
        ),
        "largest": st.sampled_from([2**31 - 1, 2**30 + 1, 2**20]),
        "master": st.booleans(),
        "accumulate": st.booleans(),
        "extreme": st.booleans(),
        "exponent": st.sampled_from([-96, -40, -20, 0, 96]),
        "rate": st.sampled_from([0.0, 1e-40, 2.0**-20, 0.05, 1.0, 3e38]),
        "dtype": widths,
        "seed": st.integers(0, 2**31),
    }
)


@given(cases)
@settings(max_examples=160, deadline=None)
def test_kernel_equals_oracle(case):
    rng = np.random.default_rng(case["seed"])
    channels = case["shape"][-1]
    limits = np.iinfo(np.int32)
    bias = rng.integers(-case["largest"] - 1, case["largest"], channels, endpoint=True).astype(np.int32)
    fraction = rng.integers(-32768, 32767, channels, endpoint=True).astype(np.int16)
    gy = integers(rng, case["shape"], case["dtype"], case["extreme"])
    if case["extreme"]:
        bias = rng.choice(np.array([limits.min, limits.max, 0], np.int32), channels)
    graph = update_graph(
        "bias_update", [gradient("gy", case["shape"], case["exponent"], case["dtype"])], bias,
        10.0 ** rng.uniform(-9, -1, channels),
        {"x_scale": 1.0, "scaling": ["qas", 0.5][int(rng.integers(2))]}, master=case["master"],
        fraction=fraction if case["master"] else None, accumulate=case["accumulate"],
    )  # fmt: skip
    run(graph, {"gy": gy}, case["rate"], steps=3, seed=case["seed"])


@pytest.mark.parametrize("pixels", [65535, 65536, 140000])
@pytest.mark.parametrize("value", [np.int16(-32768), np.int16(32767), np.int8(-128)])
def test_sums_over_many_pixels_do_not_overflow(pixels, value):
    graph = update_graph(
        "bias_update",
        [gradient("gy", (pixels, 1), -20, str(value.dtype))],
        np.zeros(1, np.int32),
        [1e-3],
        {"x_scale": 1.0},
    )
    after = run(graph, {"gy": np.full((pixels, 1), value)}, 0.01)
    want = -0.01 * pixels * float(value) * 2.0**-20 / 1e-3
    assert abs(after["p"][0] - want) <= 1 + abs(want) * 2.0**-20


def test_a_bias_moves_by_rate_times_gradient_over_scale():
    rng = np.random.default_rng(0)
    gy = rng.integers(-3000, 3000, (4, 4, 5)).astype(np.int16)
    scales = np.array([1e-4, 3e-4, 2e-3, 1e-5, 5e-4])
    for master in (True, False):
        graph = update_graph(
            "bias_update",
            [gradient("gy", gy.shape, -14)],
            np.zeros(5, np.int32),
            scales,
            {"x_scale": 1.0},
            master=master,
        )
        after = run(graph, {"gy": gy}, 0.03)
        want = -0.03 * gy.sum(axis=(0, 1)) * 2.0**-14 / scales
        got = after["p"] + (after["p.master"] / 65536 if master else 0)
        np.testing.assert_allclose(got, want, atol=1.0 if not master else 2.0**-16, rtol=1e-6)


def test_what_is_smaller_than_a_bias_step_is_kept_by_the_master():
    """A hundredth of a step, a hundred times."""
    gy = np.full((1, 1), 100, np.int16)
    graph = update_graph(
        "bias_update", [gradient("gy", (1, 1), -10)], np.array([7], np.int32), [1.0], {"x_scale": 1.0}, master=True
    )
    after = run(graph, {"gy": gy}, 0.1024, steps=100)
    assert after["p"][0] == 6 and abs(int(after["p.master"][0])) < 100
