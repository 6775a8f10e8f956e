# SPDX-License-Identifier: Apache-2.0
"""mask_gradient: passes the gradient where the bit is set, in place or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import assert_host_equals_oracle, gradient, one_node
from tinytrain.graph import Exponent, Graph, Node, Phase, Role, Tensor, verify
from tinytrain.memory import lay_out
from tinytrain.ops import add_node


def graph_of(shape):
    inputs = {"gy": gradient("gy", shape, -7), "mask": Tensor("mask", shape, "bit", Role.MASK)}
    return one_node("mask_gradient", inputs, {}, {"role": Role.GRADIENT, "exponent": Exponent(None, -7)}, Phase.BACKWARD)


@given(st.integers(1, 70), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_kernel_equals_oracle_and_the_definition(size, seed):
    rng = np.random.default_rng(seed)
    gy = rng.choice(np.array([-32768, -1, 0, 1, 32767], np.int16), size)
    bits = rng.integers(0, 2, size)
    packed = np.packbits(bits, bitorder="little")
    got = assert_host_equals_oracle(graph_of((size,)), {"gy": gy, "mask": packed})["y"]
    np.testing.assert_array_equal(got, gy * bits)


def test_it_works_in_place_and_keeps_a_gradient_that_is_read_again():
    """gy goes through two masks: the first result must not land on it, the second may."""
    graph = Graph("two masks", inputs=["gy", "first", "second"], outputs=["a", "b"])
    graph.add_tensor(gradient("gy", (9,)))
    for name in ("first", "second"):
        graph.add_tensor(Tensor(name, (9,), "bit", Role.MASK))
    for mask, result in (("first", "a"), ("second", "b")):
        add_node(graph, Node("mask_gradient", result, ("gy", mask), (result,), phase=Phase.BACKWARD), role=Role.GRADIENT)
    offsets = lay_out(verify(graph)).offsets
    assert offsets["a"] != offsets["gy"] == offsets["b"]
    masks = [np.packbits(np.array(bits), bitorder="little") for bits in ([1, 0, 1] * 3, [0, 1, 1] * 3)]
    gy = np.arange(1, 10, dtype=np.int16)
    values = assert_host_equals_oracle(graph, {"gy": gy, "first": masks[0], "second": masks[1]})
    assert values["a"].tolist() == [1, 0, 3, 4, 0, 6, 7, 0, 9] and values["b"].tolist() == [0, 2, 3, 0, 5, 6, 0, 8, 9]
