# SPDX-License-Identifier: Apache-2.0
"""No kernel reads arena bytes that nobody wrote in this step, and none writes outside its space."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tests.training import machine_of
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.host import machine as machine_module
from tinytrain.program import Space
from tinytrain.train import training_graph

GUARD = 4096
STEPS = 3


def random_training_graph(seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    return training_graph(forward, nets.random_scheme(rng, forward))


def train(graph: Graph, machine: Machine, seed: int, poison: int | None) -> list[tuple[float, int]]:
    """Steps on random samples, each with another filling of the arena; ends with a batch and an inference."""
    rng = np.random.default_rng(seed)
    garbage = np.random.default_rng(poison)
    arena = machine.memory[Space.ARENA]
    outcomes = []
    for _ in range(STEPS):
        if poison is not None:
            arena[:] = garbage.integers(0, 256, arena.size)
        outcomes.append(machine.train_step(nets.random_sample(rng, graph), int(rng.integers(2))))
    if poison is not None:
        arena[:] = garbage.integers(0, 256, arena.size)
    machine.apply()
    machine.infer(nets.random_sample(rng, graph))
    return outcomes


def persistent(machine: Machine) -> dict[Space, bytes]:
    return {space: memory.tobytes() for space, memory in machine.memory.items() if space is not Space.ARENA}


@pytest.mark.parametrize("seed", range(100, 140))
def test_what_the_arena_held_before_a_step_changes_no_bit(seed: int) -> None:
    graph = random_training_graph(seed)
    clean, dirty = machine_of(graph, 0.03), machine_of(graph, 0.03)
    assert train(graph, clean, seed, None) == train(graph, dirty, seed, poison=seed)
    assert persistent(clean) == persistent(dirty)
    np.testing.assert_array_equal(clean.read("logits"), dirty.read("logits"))


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Every space and every constant a machine allocates gets guard bytes on both sides; returns the whole blocks."""
    blocks: list[np.ndarray] = []

    def guarded(size: int) -> np.ndarray:
        raw = np.zeros(size + 2 * GUARD + 16, np.uint8)
        raw = raw[-raw.ctypes.data % 16 :][: size + 2 * GUARD]
        raw[:GUARD] = raw[GUARD + size :] = 0xA5
        blocks.append(raw)
        return raw[GUARD : GUARD + size]

    monkeypatch.setattr(machine_module, "_aligned_zeros", guarded)
    return blocks


@pytest.mark.parametrize("seed", range(200, 230))
def test_no_kernel_writes_outside_its_space(seed: int, guards: list[np.ndarray]) -> None:
    graph = random_training_graph(seed)
    machine = machine_of(graph, 0.03)
    constants = [array.data.tobytes() for array in machine.program.constants]
    train(graph, machine, seed, None)
    assert len(guards) == len(machine.memory) + len(constants)
    for block in guards:
        assert (block[:GUARD] == 0xA5).all() and (block[-GUARD:] == 0xA5).all()
    assert [array.tobytes() for array in machine._constants] == constants, "a kernel wrote into flash"


@pytest.mark.parametrize("seed", range(230, 240))
def test_what_lies_around_a_space_changes_no_bit(seed: int, guards: list[np.ndarray]) -> None:
    """Reads past an end would see other guards."""
    graph = random_training_graph(seed)
    results = []
    for filling in (0x00, 0x7F):
        guards.clear()
        machine = machine_of(graph, 0.03)
        for block in guards:
            block[:GUARD] = block[-GUARD:] = filling
        results.append((train(graph, machine, seed, None), persistent(machine)))
    assert results[0] == results[1]
