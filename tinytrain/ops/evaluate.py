# SPDX-License-Identifier: Apache-2.0
"""Execute a graph with the operators' numpy definitions: the oracle that every runtime is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tinytrain.errors import DataError
from tinytrain.graph import Graph, Phase
from tinytrain.ops.operator import Evaluation, lookup


def initial_values(graph: Graph) -> dict[str, np.ndarray]:
    """Constants, and fresh copies of the initial values of persistent tensors (zeros where none is given)."""
    values = {}
    for name, tensor in graph.tensors.items():
        if tensor.alias_of is None and (tensor.data is not None or tensor.role.persistent):
            data = np.zeros(tensor.shape, tensor.dtype) if tensor.data is None else tensor.data
            values[name] = data.copy() if tensor.role.persistent else data
    return values


def evaluate(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    persistent: dict[str, np.ndarray] | None = None,
    phases: Iterable[Phase] = tuple(Phase),
) -> dict[str, np.ndarray]:
    """Run the nodes of the given phases; returns the value of every tensor by name.

    inputs:     arrays for `graph.inputs` (and for persistent inputs such as the label)
    persistent: values from `initial_values`, changed in place by update nodes; fresh ones if None
    """
    persistent = initial_values(graph) if persistent is None else persistent
    run = Evaluation(graph, dict(persistent))
    for name, array in inputs.items():
        tensor = graph[name]
        if tuple(array.shape) != tensor.shape or str(array.dtype) != tensor.dtype:
            raise DataError(
                f"input '{name}' is {array.dtype}{list(array.shape)}, "
                f"the model takes {tensor.dtype}{list(tensor.shape)}"
            )
        if tensor.role.persistent:
            persistent[name][...] = array
        run.values[name] = array
    wanted = set(phases)
    for node in graph.nodes:
        if node.phase not in wanted:
            continue
        results = lookup(node.op).reference(run, node, *(run.values[name] for name in node.inputs))
        for name, result in zip(node.outputs, results, strict=True):
            tensor = graph[name]
            # bits come packed, eight elements to a byte
            shape, dtype = ((tensor.nbytes,), "uint8") if tensor.dtype == "bit" else (tensor.shape, tensor.dtype)
            assert (result.shape, str(result.dtype)) == (shape, dtype), (node.name, name, result.shape, result.dtype)
            run.values[name] = result
            if tensor.role.persistent:
                persistent[graph.storage(name)][...] = result
    return run.values
