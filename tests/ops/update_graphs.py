# SPDX-License-Identifier: Apache-2.0
"""Graphs of one trained parameter and the nodes that update it, for the tests of updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.oracle import assert_machines_equal_oracle
from tinytrain.graph import Graph, Node, Phase, Quantization, Role, Tensor, verify
from tinytrain.ops.arithmetic import LearningRate
from tinytrain.ops.training import Constants, TrainingBuilder
from tinytrain.ops.updates import HYPER, HYPER_START

FRACTIONS = {"int8": "int8", "int32": "int16"}


def hyper(rate: float, seed: int = 1, step: int = 0) -> np.ndarray:
    """The runtime inputs of an update."""
    parts = LearningRate.from_float(rate)
    rate = [parts.mantissa, parts.exponent % 2**32]
    return np.array([*rate, seed, step, *rate], np.uint32)


def update_graph(
    op: str, operands: list[Tensor], value: np.ndarray, scales: Any, attrs: dict[str, Any], *, axis: int = 0,
    master: bool = False, fraction: np.ndarray | None = None, accumulate: bool = False,
    rule: str = "sgd", constants: Constants | None = None,
) -> Graph:  # fmt: skip
    """One UPDATE node on the parameter "p", and its APPLY node where it accumulates. Operands are graph inputs."""
    graph = Graph(op)
    for tensor in operands:
        graph.add_tensor(tensor)
        graph.inputs.append(tensor.name)
    names: dict[str, str | None] = {"master": None, "accumulator": None}
    if master:
        data = np.zeros(value.shape, FRACTIONS[str(value.dtype)]) if fraction is None else fraction
        names["master"] = graph.add_tensor(
            Tensor("p.master", value.shape, str(data.dtype), Role.MASTER, data=data)
        ).name
    if accumulate:
        names["accumulator"] = graph.add_tensor(Tensor("p.sum", value.shape, "int32", Role.OPTIMIZER)).name
    quantization = Quantization(np.broadcast_to(np.asarray(scales, np.float64), (value.shape[axis],)), 0, axis)
    graph.add_tensor(
        Tensor("p", value.shape, str(value.dtype), Role.PARAMETER, quantization, value, rule=rule, **names)
    )
    graph.add_tensor(Tensor(HYPER, HYPER_START.shape, "uint32", Role.STATE, data=HYPER_START))
    build, node = TrainingBuilder(graph, constants=constants or Constants()), Node(op, "layer", (), (), {}, "layer")
    build.update(op, node, "update", "p", [tensor.name for tensor in operands], **attrs)
    if accumulate:
        build.apply(next(node for node in graph.nodes if node.phase is Phase.UPDATE))
    graph.outputs = [graph.nodes[-1].outputs[0]]
    return verify(graph)


def run(
    graph: Graph, inputs: dict[str, np.ndarray], rate: float, steps: int = 1, seed: int = 1
) -> dict[str, np.ndarray]:
    """Host and oracle agree; the last versions of parameter, master and accumulator, by their first names."""
    values = assert_machines_equal_oracle(graph, {**inputs, HYPER: hyper(rate, seed)}, steps)
    latest = {}
    for name, tensor in graph.tensors.items():
        if tensor.role.persistent and name in values:
            latest[graph.storage(name)] = values[name]
    return latest
