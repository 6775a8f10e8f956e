# SPDX-License-Identifier: Apache-2.0
"""clamp_mask: one bit per element, set strictly inside the clamp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.graph import Phase, Role

clamps = st.sampled_from([(-128, 127), (-128, -8), (0, 127), (-5, 5), (127, 127), (3, 4)])


def graph_of(shape, clamp):
    return one_node("clamp_mask", {"x": activation("x", shape)}, {"clamp": clamp}, {"role": Role.MASK}, Phase.SAVE)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=70), clamps)
@settings(max_examples=80, deadline=None)
def test_kernel_equals_oracle_and_the_definition(values, clamp):
    x = np.array(values, np.int8)
    graph = graph_of(x.shape, clamp)
    packed = assert_machines_equal_oracle(graph, {"x": x})["y"]
    assert packed.nbytes == graph["y"].nbytes == (len(values) + 7) // 8
    for index, value in enumerate(values):
        assert bool(packed[index // 8] >> (index % 8) & 1) == (clamp[0] < value < clamp[1])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 64])
def test_bits_behind_the_last_element_are_zero(size):
    packed = assert_machines_equal_oracle(graph_of((size,), (-128, 127)), {"x": np.zeros(size, np.int8)})["y"]
    assert np.unpackbits(packed, bitorder="little").tolist() == [1] * size + [0] * (-size % 8)


def test_a_relus_zero_has_no_gradient():
    """The bound does not say whether the clamp was active; for a ReLU it is real zero, where the gradient is 0."""
    x = np.array([-128, -127, 126, 127], np.int8)
    assert assert_machines_equal_oracle(graph_of((4,), (-128, 127)), {"x": x})["y"].tolist() == [0b0110]
