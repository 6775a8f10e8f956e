# SPDX-License-Identifier: Apache-2.0
"""Compare the C runtime with the numpy oracle, and build one-node graphs to do it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinytrain.graph import Exponent, Graph, Node, Phase, Quantization, Role, Tensor, verify
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.ops import add_node, evaluate, initial_values
from tinytrain.program import lower


def one_node(
    op: str,
    inputs: Mapping[str, Tensor],
    attrs: Mapping[str, Any],
    output: Mapping[str, Any],
    phase: Phase = Phase.FORWARD,
    state: tuple[int, int, int] | None = None,
) -> Graph:
    """A graph of one node. Inputs without data (and not persistent) become graph inputs, in order.

    state: initial value of the exponent state "state", for outputs with exponent=Exponent("state")

    output: fields of the output tensor, for example quantization=..., role=..., exponent=...
    """
    graph = Graph(op)
    for tensor in inputs.values():
        graph.add_tensor(tensor)
        if tensor.data is None and not tensor.role.persistent:
            graph.inputs.append(tensor.name)
    add_node(graph, Node(op, op, tuple(inputs), ("y",), dict(attrs), phase=phase), **output)
    graph.outputs = ["y"]
    if state is not None:
        graph.add_tensor(exponent_state("state", state))
    return verify(graph)


def activation(name: str, shape: tuple[int, ...], scale: float = 1.0, zero_point: int = 0) -> Tensor:
    return Tensor(name, shape, "int8", quantization=Quantization.per_tensor(scale, zero_point))


def constant(name: str, data: np.ndarray, scale: Any = None, axis: int | None = None) -> Tensor:
    quantization = None if scale is None else Quantization(np.asarray(scale), 0, axis)
    return Tensor(name, data.shape, str(data.dtype), Role.CONSTANT, quantization, data)


def gradient(name: str, shape: tuple[int, ...], offset: int = 0, dtype: str = "int16") -> Tensor:
    return Tensor(name, shape, dtype, Role.GRADIENT, exponent=Exponent(None, offset))


def exponent_state(name: str, value: tuple[int, int, int]) -> Tensor:
    """State of a delayed exponent: {exponent, peak mantissa, peak exponent}."""
    return Tensor(name, (3,), "int32", Role.OPTIMIZER, data=np.array(value, np.int32))


def assert_host_equals_oracle(graph: Graph, inputs: Mapping[str, np.ndarray], steps: int = 1) -> dict[str, np.ndarray]:
    """Run every phase on both, `steps` times; outputs and all persistent memory must be equal to the bit.

    Returns the oracle's values of the last step.
    """
    machine = Machine(lower(graph, lay_out(graph)))
    persistent = initial_values(graph)
    values: dict[str, np.ndarray] = {}
    for _ in range(steps):
        for name, array in inputs.items():
            machine.view(name)[...] = array
        machine.run(tuple(Phase))
        values = evaluate(graph, inputs, persistent)
        for name in graph.outputs:
            assert_same(machine.view(graph.storage(name) if graph[name].role.persistent else name), values[name], name)
        for name, tensor in graph.tensors.items():
            if tensor.role.persistent and tensor.alias_of is None:
                assert_same(machine.view(name), persistent[name], name)
    return values


def assert_same(got: np.ndarray, want: np.ndarray, name: str) -> None:
    """Equal to the bit, or a message with the first differing element and both values."""
    assert got.shape == want.shape, f"{name}: shape {got.shape}, oracle {want.shape}"
    different = np.argwhere(got != want)
    if len(different):
        first = tuple(int(i) for i in different[0])
        raise AssertionError(
            f"{name}{list(first)} is {got[first]}, the oracle says {want[first]} "
            f"({len(different)} of {got.size} elements differ)"
        )
