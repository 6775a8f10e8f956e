# SPDX-License-Identifier: Apache-2.0
"""mask_gradient: passes the gradient where the bit is set, in place or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.gradients import widths
from tests.oracle import activation, assert_machines_equal_oracle, gradient
from tinytrain.graph import Exponent, Graph, Node, Phase, Role, verify
from tinytrain.memory import lay_out
from tinytrain.ops import add_node


def graph_of(size: int, masks: tuple[str, ...], dtype: str = "int16") -> Graph:
    """One gradient through several masks; the mask `m` has the bits where x is not -128."""
    graph = Graph("masks", inputs=["gy", *masks])
    graph.add_tensor(gradient("gy", (size,), -7, dtype))
    for mask in masks:
        graph.add_tensor(activation(mask, (size,)))
        node = Node("clamp_mask", f"{mask}.mask", (mask,), (f"{mask}.mask",), {"clamp": (-128, 127)}, phase=Phase.SAVE)
        add_node(graph, node, role=Role.MASK)
    for mask in masks:
        node = Node("mask_gradient", f"{mask}.gx", ("gy", f"{mask}.mask"), (f"{mask}.gx",), phase=Phase.BACKWARD)
        add_node(graph, node, role=Role.GRADIENT, exponent=Exponent(None, -7))
    graph.outputs = [f"{mask}.gx" for mask in masks]
    return verify(graph)


def source(bits: np.ndarray) -> np.ndarray:
    return np.where(bits, 0, -128).astype(np.int8)


@given(st.integers(1, 70), widths, st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_kernel_equals_oracle_and_the_definition(size, dtype, seed):
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    gy = rng.choice(np.array([limits.min, -1, 0, 1, limits.max], dtype), size)
    bits = rng.integers(0, 2, size)
    graph = graph_of(size, ("m",), dtype)
    assert lay_out(graph).offsets["m.gx"] == lay_out(graph).offsets["gy"]
    got = assert_machines_equal_oracle(graph, {"gy": gy, "m": source(bits)})["m.gx"]
    np.testing.assert_array_equal(got, gy * bits)


def test_it_works_in_place_and_keeps_a_gradient_that_is_read_again():
    """gy goes through two masks: the first result must not land on it, the second may."""
    graph = graph_of(9, ("a", "b"))
    offsets = lay_out(graph).offsets
    assert offsets["a.gx"] != offsets["gy"] == offsets["b.gx"]
    gy = np.arange(1, 10, dtype=np.int16)
    bits = {"a": np.array([1, 0, 1] * 3), "b": np.array([0, 1, 1] * 3)}
    values = assert_machines_equal_oracle(graph, {"gy": gy, **{name: source(b) for name, b in bits.items()}})
    for name, expected in bits.items():
        np.testing.assert_array_equal(values[f"{name}.gx"], gy * expected)
