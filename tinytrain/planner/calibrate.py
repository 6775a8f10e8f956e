# SPDX-License-Identifier: Apache-2.0
"""Initial gradient exponents: a few training steps on the host, before the first one on a board."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.ops.training import ExponentStart
from tinytrain.program import Program, Space

STEPS = 24
RATE = 2.0**-10  # small: the exponents are wanted, not the training


def measure_exponents(
    graph: Graph, program: Program, samples: np.ndarray, labels: np.ndarray, targets: np.ndarray | None = None
) -> ExponentStart:
    """State of every delayed exponent after a few steps of a training graph and its program; none where the loss needs
    targets and there are none.

    samples: int8 [N, ...], labels: int [N], targets: float [N, outputs]; the first STEPS of them are used
    """
    if program.needs_target and targets is None:
        return {}
    machine = Machine(program)
    machine.set_learning_rate(RATE)
    for index, sample in enumerate(samples[:STEPS]):
        machine.train_step(sample, int(labels[index]), target=None if targets is None else targets[index])
    states: ExponentStart = {}
    for tensor in graph.tensors.values():
        if tensor.exponent and tensor.exponent.state == f"{tensor.name}.exponent":
            location = program.locations[tensor.exponent.state]
            assert location.space is Space.OPTIMIZER
            exponent, mantissa, power = (int(value) for value in machine.view(tensor.exponent.state))
            if mantissa:
                states[tensor.name] = (exponent, mantissa, power)
    return states


def random_samples(graph: Graph, program: Program, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stand-ins where no data is given."""
    rng = np.random.default_rng(seed)
    shape = graph[graph.inputs[0]].shape
    samples = rng.integers(-128, 128, (STEPS, *shape)).astype(np.int8)
    return samples, rng.integers(0, max(1, program.labels), STEPS)
