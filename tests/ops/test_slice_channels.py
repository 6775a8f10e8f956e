# SPDX-License-Identifier: Apache-2.0
"""slice_channels: copies a range of channels of every pixel and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.graph import Phase, Quantization


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 12), st.data(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_and_the_definition(height, width, channels, data, seed):
    start = data.draw(st.integers(0, channels - 1))
    count = data.draw(st.integers(1, channels - start))
    graph = one_node(
        "slice_channels", {"x": activation("x", (height, width, channels), 0.1, 3)},
        {"channels": (start, count), "of": channels}, {"quantization": Quantization.per_tensor(0.1, 3)}, Phase.SAVE,
    )  # fmt: skip
    x = np.random.default_rng(seed).integers(-128, 127, (height, width, channels), endpoint=True).astype(np.int8)
    got = assert_machines_equal_oracle(graph, {"x": x})["y"]
    np.testing.assert_array_equal(got, x[:, :, start : start + count])


def test_an_image_that_a_dense_layer_reads_is_one_pixel():
    graph = one_node(
        "slice_channels", {"x": activation("x", (2, 3, 4))}, {"channels": (5, 7), "of": 24}, {}, Phase.SAVE
    )
    x = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    assert graph["y"].shape == (7,)
    assert assert_machines_equal_oracle(graph, {"x": x})["y"].tolist() == list(range(5, 12))
