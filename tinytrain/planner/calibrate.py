# SPDX-License-Identifier: Apache-2.0
"""Initial gradient exponents: a few training steps on the host, before the first one on a board."""

from __future__ import annotations

import numpy as np

from tinytrain.host import Machine
from tinytrain.ops.training import ExponentStart
from tinytrain.planner.budget import Account
from tinytrain.program import Space

STEPS = 24
RATE = 2.0**-10  # small: the exponents are wanted, not the training


def measure_exponents(found: Account, samples: np.ndarray, labels: np.ndarray) -> ExponentStart:
    """State of every delayed exponent after a few steps.

    samples: int8 [N, ...], labels: int [N]; the first STEPS of them are used
    """
    machine = Machine(found.program)
    machine.set_learning_rate(RATE)
    for sample, label in zip(samples[:STEPS], labels[:STEPS], strict=True):
        machine.train_step(sample, int(label))
    states: ExponentStart = {}
    for tensor in found.graph.tensors.values():
        if tensor.exponent and tensor.exponent.state == f"{tensor.name}.exponent":
            location = found.program.locations[tensor.exponent.state]
            assert location.space is Space.OPTIMIZER
            exponent, mantissa, power = (int(value) for value in machine.view(tensor.exponent.state))
            if mantissa:
                states[tensor.name] = (exponent, mantissa, power)
    return states


def random_samples(shape: tuple[int, ...], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stand-ins where no data is given."""
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (STEPS, *shape)).astype(np.int8), rng.integers(0, classes, STEPS)
