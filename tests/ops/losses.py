# SPDX-License-Identifier: Apache-2.0
"""One loss node on C and oracle, and the float gradient of a scalar function by differences and by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.oracle import assert_machines_equal_oracle
from tinytrain.graph import Exponent, Graph, Node, Phase, Quantization, Role, Tensor, verify
from tinytrain.ops import add_node
from tinytrain.ops.cross_entropy import constants

UNIT = 2.0**-16
EDGES = [-(2**31), -(2**31) + 1, -(24 << 16), -1, 0, 1, 65536, 24 << 16, 2**31 - 2, 2**31 - 1]


def loss_graph(
    op: str, outputs: int, compared: Tensor, attrs: Mapping[str, Any] | None = None, delayed: bool = False
) -> Graph:
    """Inputs "y" (int32 outputs) and what they are compared with; result' and gradient come out."""
    graph = Graph("loss", inputs=["y"], outputs=["gradient"])
    graph.add_tensor(Tensor("y", (outputs,), "int32"))
    graph.add_tensor(compared)
    if not compared.role.persistent:
        graph.inputs.append(compared.name)
    graph.add_tensor(Tensor("result", (2,), "int32", Role.STATE))
    inputs, made = ("y", compared.name, "result"), ("gradient", "result'")
    add_node(graph, Node(op, "loss", inputs, made, dict(attrs or {}), phase=Phase.LOSS), role=Role.GRADIENT)
    graph.tensors["result'"] = graph["result'"].but(role=Role.STATE, alias_of="result")
    if delayed:
        graph.add_tensor(Tensor("state", (3,), "int32", Role.OPTIMIZER, data=np.array([-24, 0, 0], np.int32)))
        graph.tensors["gradient"] = graph["gradient"].but(exponent=Exponent("state"))
    return verify(graph)


def label_tensor() -> Tensor:
    return Tensor("label", (1,), "int32", Role.STATE)


def given_target(outputs: int) -> Tensor:
    return Tensor("target", (outputs,), "int32", Role.STATE)


def sample_target(shape: tuple[int, ...], scale: float, zero_point: int) -> Tensor:
    return Tensor("x", shape, "int8", quantization=Quantization.per_tensor(scale, zero_point))


def run_loss(graph: Graph, inputs: Mapping[str, np.ndarray], steps: int = 1) -> tuple[np.ndarray, int, int, int]:
    """(mantissas, loss, prediction, exponent of a delayed gradient or 0), C and oracle agreeing."""
    values = assert_machines_equal_oracle(graph, inputs, steps)
    exponent = int(values["state"][0]) if "state" in values else 0
    loss, predicted = (int(value) for value in values["result'"])
    return values["gradient"], loss, predicted, exponent


def factor_error(attrs: Mapping[str, Any], classes: int) -> float:
    """By how much a class weight may be rounded: half of its last bit."""
    return 2.0 ** (constants(attrs, classes).exponent - 31)


def differences(function: Callable[[np.ndarray], float], y: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """Central differences of a scalar function in float64."""
    result = np.zeros(y.size)
    for index in range(y.size):
        step = np.zeros(y.size)
        step[index] = eps
        result[index] = (function(y + step) - function(y - step)) / (2 * eps)
    return result


def torch_gradient(function: Callable[..., Any], y: np.ndarray) -> tuple[np.ndarray, float]:
    """(gradient, value) of a scalar torch function of float64 outputs."""
    import torch

    leaf = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    value = function(leaf)
    value.backward()
    return leaf.grad.numpy(), float(value.detach())
