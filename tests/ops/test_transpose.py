# SPDX-License-Identifier: Apache-2.0
"""transpose: every order of up to four dimensions; the gradient is the inverse order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.ops.gradients import MANTISSAS, run_gradient
from tests.ops.windowed import integers
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization

EXTENTS = (3, 1, 5, 4)
ORDERS = [perm for rank in (1, 2, 3, 4) for perm in itertools.permutations(range(rank))]


def graph_of(shape, perm):
    fields = {"quantization": Quantization.per_tensor(0.02, 3)}
    return one_node("transpose", {"x": activation("x", shape, 0.02, 3)}, {"perm": perm}, fields)


def certificates():
    return {"three dimensions": graph_of((2, 3, 4), (2, 0, 1)), "four": graph_of((3, 1, 5, 4), (3, 0, 2, 1))}


@pytest.mark.parametrize("dtype", MANTISSAS)
@pytest.mark.parametrize("perm", ORDERS)
def test_forward_and_gradient(perm, dtype):
    rng = np.random.default_rng(0)
    shape = EXTENTS[: len(perm)]
    graph = graph_of(shape, perm)
    x = rng.integers(-128, 128, shape).astype(np.int8)
    np.testing.assert_array_equal(assert_machines_equal_oracle(graph, {"x": x})["y"], x.transpose(perm))
    gy = integers(rng, graph["y"].shape, dtype, False)
    (got,), _, _ = run_gradient(graph, {"x": x}, gy)
    want = np.zeros(shape)
    want.transpose(perm)[...] = gy * 2.0**-12
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape, perm", [((2, 3), (0, 0)), ((2, 3), (0, 1, 2)), ((1, 2, 3, 4, 5), (4, 3, 2, 1, 0))])
def test_what_is_no_order_is_refused(shape, perm):
    with pytest.raises(GraphError, match=r"'transpose'[^\n]*does not fit"):
        graph_of(shape, perm)
