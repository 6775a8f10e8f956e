# SPDX-License-Identifier: Apache-2.0
"""The gradients of integer training in real units, read from the accumulators of the C runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.ops.updates import ACCUMULATOR_BITS
from tinytrain.program import lower
from tinytrain.train import Optimizer, Scheme, training_graph

SETTLE = 10  # steps on a sample before its gradients are read: exponents follow the magnitudes of earlier steps
# accumulators have 31 bits, scales of channels differ by more: each element is read at the largest rate it can hold
RATES = tuple(2.0**power for power in range(-48, 49, 12))
LARGEST = 2**30  # of an accumulator that did not saturate


def answer(scheme: Scheme, label: Any) -> dict[str, Any]:
    """A sample's answer as `Machine.train_step` takes it."""
    return {"target": label} if scheme.loss.needs_target else {"label": int(label)}


class GradientMeter:
    """One training program that accumulates; its parameters never change."""

    def __init__(self, forward: Graph, scheme: Scheme) -> None:
        self._scheme = scheme
        self.graph = training_graph(forward, scheme.but(accumulate=True, optimizer=Optimizer()))
        self._machine = Machine(lower(self.graph, lay_out(self.graph)))
        self.parameters = [t for t in self.graph.tensors.values() if t.accumulator and t.alias_of is None]

    def gradients(self, sample: np.ndarray, label: Any, settle: int = SETTLE) -> dict[str, np.ndarray]:
        """d loss / d parameter of one sample, by the names of the training graph's parameters (or their blocks).

        label: the class, or values for the outputs
        """
        self._machine.reset()
        self._machine.set_learning_rate(0.0)
        for _ in range(settle):
            self._machine.train_step(sample, **answer(self._scheme, label))
        found = {tensor.name: np.zeros(tensor.shape) for tensor in self.parameters}
        for rate in RATES:
            self._machine.set_learning_rate(rate)
            for tensor in self.parameters:
                self._machine.view(str(tensor.accumulator))[...] = 0
            self._machine.train_step(sample, **answer(self._scheme, label))
            for tensor in self.parameters:
                assert tensor.quantization is not None
                shape = [1] * len(tensor.shape)
                shape[tensor.quantization.axis or 0] = -1
                sums = self._machine.read(str(tensor.accumulator)).astype(np.float64)
                # rate * gradient / scale, in steps of the parameter's integers with so many fractional bits
                unit = rate / tensor.quantization.scale.reshape(shape) * 2.0 ** ACCUMULATOR_BITS[tensor.dtype]
                found[tensor.name] = np.where(np.abs(sums) < LARGEST, sums / unit, found[tensor.name])
        return found
