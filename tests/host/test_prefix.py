# SPDX-License-Identifier: Apache-2.0
"""What frozen rows leave is put back instead of computed: no bit of any step changes."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tests import nets
from tests.training import RATE
from tinytrain.graph import Graph, Phase
from tinytrain.host import Machine
from tinytrain.host.prefix import FrozenPrefix, PrefixCache, frozen_prefix
from tinytrain.memory import lay_out
from tinytrain.program import Program, Space, lower
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, training_graph

SAMPLES = 4


def compiled(graph: Graph) -> tuple[Program, FrozenPrefix]:
    layout = lay_out(graph)
    return lower(graph, layout), frozen_prefix(graph, layout)


def trained(
    program: Program, cache: PrefixCache, samples: np.ndarray, steps: int, poison: bool = False
) -> tuple[list[object], dict[Space, bytes]]:
    """(losses, predictions and logits; memory) after steps and inferences in turn over the same few samples."""
    machine = Machine(program)
    machine.set_learning_rate(RATE)
    seen: list[object] = []
    for step in range(steps):
        index = step % len(samples)
        for infer in (False, True):
            if poison:
                machine.memory[Space.ARENA][:] = 0xA5
            first = cache.load(machine, index, functools.partial(samples.__getitem__, index))
            machine.set_answer(index % 2)
            seen.append(machine.forward(first).tolist() if infer else machine.step(first))
        if any(row.phase is Phase.APPLY for row in program.rows):
            machine.apply()
    return seen, {space: memory.tobytes() for space, memory in machine.memory.items() if space is not Space.ARENA}


@pytest.mark.parametrize("seed", range(25))
def test_steps_with_a_cache_equal_steps_without(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    graph = training_graph(forward, nets.random_scheme(rng, forward))
    program, prefix = compiled(graph)
    samples = np.array([nets.random_sample(rng, forward) for _ in range(SAMPLES)])
    plain = trained(program, PrefixCache(prefix, 0), samples, 9)
    cache = PrefixCache(prefix, 1 << 20)
    assert trained(program, cache, samples, 9, poison=True) == plain
    assert cache.nbytes == (SAMPLES * prefix.nbytes if prefix.rows else 0)


def test_the_prefix_ends_at_the_first_trained_layer(residual: Graph) -> None:
    layers = {"block1.project": LayerUpdate(True, Slice("all"))}
    program, prefix = compiled(training_graph(residual, Scheme(layers, 3)))
    assert program.rows[prefix.rows].node == "block1.project"
    assert 0 < prefix.nbytes < program.sizes[Space.ARENA]
    assert all(row.phase in (Phase.FORWARD, Phase.SAVE) for row in program.rows[: prefix.rows])


def test_nothing_is_kept_where_everything_is_trained(residual: Graph) -> None:
    program, prefix = compiled(training_graph(residual, all_weights(residual)))
    cache = PrefixCache(prefix, 1 << 20)
    sample = nets.random_sample(np.random.default_rng(0), residual)
    assert prefix.rows == 0 and cache.load(Machine(program), 0, lambda: sample) == 0 and cache.nbytes == 0


def test_the_limit_holds_and_samples_without_a_name_are_not_kept(residual: Graph) -> None:
    program, prefix = compiled(training_graph(residual, Scheme(classes=3)))
    cache, machine = PrefixCache(prefix, 2 * prefix.nbytes + 1), Machine(program)
    sample = nets.random_sample(np.random.default_rng(0), residual)
    assert cache.load(machine, None, lambda: sample) == 0 and cache.nbytes == 0
    firsts = [cache.load(machine, index, lambda: sample) for index in (0, 1, 2, 0)]
    assert firsts == [prefix.rows, prefix.rows, 0, prefix.rows] and cache.nbytes == 2 * prefix.nbytes


def test_rows_outside_the_program_are_refused(residual: Graph) -> None:
    program, _ = compiled(training_graph(residual, Scheme(classes=3)))
    machine = Machine(program)
    for first, end in ((-1, None), (3, 2), (0, len(program.rows) + 1)):
        with pytest.raises(ValueError, match="rows"):
            machine.run([Phase.FORWARD], first, end)
