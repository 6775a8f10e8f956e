# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on the host runtime beside the numpy oracle, compared to the bit after every step."""

from __future__ import annotations

import numpy as np

from tests.oracle import assert_same
from tinytrain.graph import Graph, Phase
from tinytrain.host import Machine
from tinytrain.host.machine import STEP
from tinytrain.memory import lay_out
from tinytrain.ops import evaluate, initial_values
from tinytrain.ops.updates import ACCUMULATOR_BITS
from tinytrain.program import lower


def machine_of(graph: Graph, rate: float = 0.0, seed: int = 1) -> Machine:
    """A training graph, loaded."""
    machine = Machine(lower(graph, lay_out(graph)))
    machine.set_learning_rate(rate)
    machine.set_seed(seed)
    return machine


def persistent_names(graph: Graph) -> list[str]:
    return [name for name in _persistent(graph) if graph[name].alias_of is None]


def _persistent(graph: Graph) -> list[str]:
    return [name for name, tensor in graph.tensors.items() if tensor.role.persistent]


class Pair:
    """The same steps on both; `values` holds what the oracle computed in the last step."""

    def __init__(self, graph: Graph, rate: float, seed: int = 1) -> None:
        self.graph, self.machine = graph, machine_of(graph, rate, seed)
        self.persistent = initial_values(graph)
        self.values: dict[str, np.ndarray] = {}
        self.count = 0

    def step(self, sample: np.ndarray, label: int, target: np.ndarray | None = None) -> tuple[float, int]:
        """label, target: those of the loss's own kind are used."""
        self._same_inputs()
        inputs = {self.graph.inputs[0]: sample}
        if "target" in self.graph.tensors:
            outcome = self.machine.train_step(sample, target=target)
            inputs["target"] = np.rint(target * 65536).astype(np.int32)
        else:
            outcome = self.machine.train_step(sample, label)
        if "label" in self.graph.tensors:
            inputs["label"] = np.array([label], np.int32)
        self.values = evaluate(self.graph, inputs, self.persistent, STEP)
        self.count += 1
        self._compare()
        assert outcome == (self.values["result'"][0] / 65536, self.values["result'"][1])
        return outcome

    def apply(self) -> None:
        self._same_inputs()
        self.machine.apply()
        # the versions that update nodes wrote are the bytes they took over
        versions = {name: self.persistent[self.graph.storage(name)] for name in _persistent(self.graph)}
        evaluate(self.graph, {}, versions, [Phase.APPLY])
        self._compare()

    def _same_inputs(self) -> None:
        self.persistent["hyper"][:] = self.machine.view("hyper")  # rate, seed and step come from the caller

    def _compare(self) -> None:
        for name in persistent_names(self.graph):
            if name != "hyper":
                assert_same(self.machine.view(name), self.persistent[name], f"after step {self.count}: {name}")


RATE = 2.0**-6


def measured_gradients(
    graph: Graph, sample: np.ndarray, label: int, settle: int = 10, target: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The integer gradient of every parameter as reals, by parameter name, from the accumulators.

    graph: of a scheme that accumulates; parameters stay as they are. `settle` steps let exponents find their place.
    """
    machine = machine_of(graph, RATE)
    parameters = [tensor for tensor in graph.tensors.values() if tensor.accumulator and tensor.alias_of is None]
    for _ in range(settle):
        for tensor in parameters:
            machine.view(tensor.accumulator)[...] = 0
        machine.train_step(sample, label, target=target)
    gradients = {}
    for tensor in parameters:
        shape = [1] * len(tensor.shape)
        shape[tensor.quantization.axis or 0] = -1
        # lr * gradient / scale, in steps of the parameter's integers with so many fractional bits
        unit = RATE / tensor.quantization.scale.reshape(shape) * 2.0 ** ACCUMULATOR_BITS[tensor.dtype]
        gradients[tensor.name] = machine.view(tensor.accumulator) / unit
    return gradients
