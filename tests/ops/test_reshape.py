# SPDX-License-Identifier: Apache-2.0
"""reshape: a view of the same bytes, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.gradients import MANTISSAS, run_gradient, with_gradient
from tests.ops.windowed import integers
from tests.oracle import activation, assert_machines_equal_oracle, one_node
from tinytrain.errors import GraphError
from tinytrain.graph import Quantization
from tinytrain.memory import lay_out
from tinytrain.program import lower

QUANTIZATION = {"quantization": Quantization.per_tensor(0.02, 3)}


def graph_of(shape, target):
    return one_node("reshape", {"x": activation("x", shape, 0.02, 3)}, {"shape": target}, QUANTIZATION)


def certificates():
    return {"an image to a vector": graph_of((2, 3, 4), (24,))}


def test_reshape_moves_no_byte():
    graph = graph_of((2, 3, 4), (24,))
    layout = lay_out(graph)
    assert layout.arena == 24 and layout.offsets["y"] == layout.offsets["x"]
    assert lower(graph, layout).rows == []
    x = np.arange(24, dtype=np.int8).reshape(2, 3, 4)
    np.testing.assert_array_equal(assert_machines_equal_oracle(graph, {"x": x})["y"], x.reshape(-1))


@pytest.mark.parametrize("dtype", MANTISSAS)
def test_gradient_is_a_view_too(dtype):
    graph = graph_of((2, 3, 4), (6, 4))
    gy = integers(np.random.default_rng(0), (6, 4), dtype, False)
    (got,), _, _ = run_gradient(graph, {"x": np.zeros((2, 3, 4), np.int8)}, gy)
    np.testing.assert_array_equal(got, gy.reshape(2, 3, 4) * 2.0**-12)
    training, (name,) = with_gradient(graph, dtype=dtype)
    layout = lay_out(training)
    assert layout.offsets[name] == layout.offsets["gy"]


def test_another_number_of_elements_is_refused():
    with pytest.raises(GraphError, match="reshape") as error:
        graph_of((2, 3, 4), (5, 5))
    assert "24" in error.value.why and "25" in error.value.why
