# SPDX-License-Identifier: Apache-2.0
"""What bad inputs do (docs/arithmetic.md): whole steps, C beside the oracle to the bit, then under sanitizers."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.training import Pair, machine_of, persistent_names
from tinytrain.data import InputSpec, quantize_samples
from tinytrain.errors import DataError
from tinytrain.graph import Graph, Role
from tinytrain.ops.arithmetic import EXPONENT_MAX, EXPONENT_MIN, exponent_begin, mantissa_bits
from tinytrain.train import Loss, Optimizer, Scheme, all_weights, training_graph
from tinytrain.train.optimizer import KINDS
from tinytrain.train.scheme import GRADIENTS, UPDATES

ROOT = Path(__file__).resolve().parents[2]
RATE = 0.01


def schemes() -> dict[str, Scheme]:
    """Every option at least once, and updates, batches and gradient widths with each other."""
    found = {
        f"{update}, {gradients}, {'batches' if accumulate else 'steps'}": Scheme(
            update=update, gradients=gradients, accumulate=accumulate
        )
        for update in UPDATES
        for gradients in GRADIENTS
        for accumulate in (False, True)
    }
    found |= {kind: Scheme(optimizer=Optimizer(kind)) for kind in KINDS[1:]}
    found["decay and clipping"] = Scheme(optimizer=Optimizer(weight_decay=0.1, clip=2.0))
    found["smoothing and class weights"] = Scheme(
        loss=Loss(label_smoothing=0.1, class_weights=(1.0, 0.001, 1000.0, 2.0))
    )
    found["binary"] = Scheme(classes=1, loss=Loss("binary_cross_entropy"))
    found["squared error"] = Scheme(loss=Loss("mean_squared_error", target="given"))
    return found


SCHEMES = schemes()
PLAIN = [name for name, scheme in SCHEMES.items() if scheme.loss == Loss() and scheme.optimizer == Optimizer()]


def graph_of(name: str) -> Graph:
    forward = nets.residual()
    return training_graph(forward, SCHEMES[name].but(layers=all_weights(forward).layers))


def step(pair: Pair, sample: np.ndarray, label: int = 0, target: float = 1.0) -> tuple[float, int]:
    """A step, and the end of a batch where gradients accumulate."""
    outputs = pair.graph["logits"].size
    outcome = pair.step(sample, label, np.full(outputs, target))
    if any(tensor.accumulator for tensor in pair.graph.tensors.values()):
        pair.apply()
    return outcome


def parameters(pair: Pair) -> dict[str, np.ndarray]:
    graph = pair.graph
    names = [name for name in persistent_names(graph) if graph[name].role in (Role.PARAMETER, Role.MASTER)]
    return {name: pair.machine.read(name) for name in names}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def within_their_ranges(pair: Pair) -> bool:
    limits = {"int8": 127, "int16": 127 * 256, "int32": 2**31}
    return all(
        np.abs(value.astype(np.int64)).max() <= limits[str(value.dtype)]
        for name, value in parameters(pair).items()
        if pair.graph[name].role is Role.PARAMETER
    )


def some_sample(pair: Pair, seed: int = 0) -> np.ndarray:
    return nets.random_sample(np.random.default_rng(seed), pair.graph)


@pytest.mark.parametrize("name", SCHEMES)
def test_constant_samples_are_samples(name: str) -> None:
    pair = Pair(graph_of(name), RATE)
    x = pair.graph[pair.graph.inputs[0]]
    for value in (-128, 127, x.zero_point, -128, 127):
        for label in (0, 1):
            loss, _ = step(pair, np.full(x.shape, value, np.int8), min(label, pair.graph["logits"].size))
            assert 0 <= loss <= 2**15
    assert within_their_ranges(pair)


@pytest.mark.parametrize("rate", [0.0, 1e-45, 1e-38])
@pytest.mark.parametrize("name", SCHEMES)
def test_no_rate_and_a_rate_next_to_none_change_nothing(name: str, rate: float) -> None:
    """1e-45 and 1e-38 are no normal floats, but rates. Momenta and accumulators may follow the gradients."""
    pair = Pair(graph_of(name), rate)
    before = parameters(pair)
    for seed in range(3):
        step(pair, some_sample(pair, seed))
    assert same(parameters(pair), before)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_largest_rate_saturates(name: str) -> None:
    pair = Pair(graph_of(name), 3e38)
    for seed in range(4):
        step(pair, some_sample(pair, seed), seed % 2)
    assert within_their_ranges(pair)


@pytest.mark.parametrize("rate", [-1.0, -1e-45, float("nan"), float("inf"), -float("inf"), 1e39])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    machine = machine_of(graph_of(PLAIN[0]), RATE)
    before = machine.read("hyper")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="learning rate"):
            machine.set_learning_rate(rate)
    assert np.array_equal(machine.read("hyper"), before)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("name", SCHEMES)
def test_extreme_seeds_and_a_step_counter_that_wraps(name: str, seed: int) -> None:
    pair = Pair(graph_of(name), RATE, seed)
    pair.machine.view("hyper")[3] = 2**32 - 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(4):
            step(pair, some_sample(pair, index))
    assert pair.machine.view("hyper").tolist()[2:4] == [seed, 2]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_label_outside_the_classes_is_refused_and_changes_nothing(name: str) -> None:
    pair = Pair(graph_of(name), RATE)
    step(pair, some_sample(pair))
    labels = pair.machine.program.labels
    if not labels:
        return
    before = {key: pair.machine.read(key) for key in persistent_names(pair.graph)}
    for label in (-1, labels, 2**31 - 1, -(2**31), 2**40):
        with pytest.raises(DataError, match="label"):
            pair.machine.train_step(some_sample(pair), label)
    assert same({key: pair.machine.read(key) for key in before}, before)
    step(pair, some_sample(pair, 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    pair = Pair(graph_of("squared error"), RATE)
    targets = np.zeros(pair.graph["logits"].size)
    targets[1] = bad
    with pytest.raises(DataError):
        pair.machine.train_step(some_sample(pair), target=targets)
    samples = np.zeros((2, 8, 8, 3), np.float32)
    samples[1, 3, 4, 0] = bad
    with pytest.raises(DataError, match="not finite"):
        quantize_samples(samples, InputSpec((8, 8, 3), 0.03, 3))


@pytest.mark.parametrize("target", [3e4, -3e4])
def test_targets_far_away_saturate_the_gradient(target: float) -> None:
    pair = Pair(graph_of("squared error"), RATE)
    for seed in range(4):
        loss, _ = step(pair, some_sample(pair, seed), target=target)
        assert loss == (2**31 - 1) / 65536
    assert within_their_ranges(pair)


def certain(pair: Pair) -> None:
    """The head says class 0, with all the probability there is."""
    for memory in (pair.machine.view("head.head.bias"), pair.persistent["head.head.bias"]):
        memory[:] = [2**30, *[-(2**30)] * (memory.size - 1)]


def exponents(pair: Pair) -> dict[str, list[int]]:
    """The states of gradients' exponents; those of optimizers have one number."""
    names = [name for name in persistent_names(pair.graph) if name.endswith(".exponent")]
    return {name: pair.machine.read(name).tolist() for name in names if pair.graph[name].shape == (3,)}


@pytest.mark.parametrize("name", PLAIN)
def test_a_gradient_of_zeros_changes_nothing_but_the_memory_of_peaks(name: str) -> None:
    pair = Pair(graph_of(name), RATE)
    certain(pair)
    before, untouched = parameters(pair), exponents(pair)
    step(pair, some_sample(pair), 0)
    assert not pair.values["logits.gradient"].any()
    assert same(parameters(pair), before) and exponents(pair) == untouched, "nothing seen, nothing forgotten"
    step(pair, some_sample(pair), 1)  # wrong: peaks
    certain(pair)
    before, seen = parameters(pair), exponents(pair)
    assert seen != untouched
    step(pair, some_sample(pair), 0)
    assert same(parameters(pair), before)
    for state, value in exponents(pair).items():
        forgotten = np.array(seen[state], np.int32)
        exponent_begin(forgotten, mantissa_bits(pair.graph[state.removesuffix(".exponent")].dtype))
        assert value == forgotten.tolist(), state


LIMITS = [
    (EXPONENT_MIN, 0, 0), (EXPONENT_MAX, 0, 0), (EXPONENT_MIN, 2**30, EXPONENT_MIN - 17),
    (EXPONENT_MAX, 2**31 - 1, EXPONENT_MAX - 17), (EXPONENT_MAX, 2**31 - 1, 400), (EXPONENT_MIN, 2**30, -100_000),
]  # fmt: skip


@pytest.mark.parametrize("state", LIMITS)
@pytest.mark.parametrize("name", SCHEMES)
def test_exponents_at_their_limits(name: str, state: tuple[int, int, int]) -> None:
    """Gradients saturate, or vanish; parameters stay in their ranges, and bits are the oracle's."""
    pair = Pair(graph_of(name), RATE)
    for gradient in exponents(pair):
        for memory in (pair.machine.view(gradient), pair.persistent[gradient]):
            memory[:] = state
    for seed in range(3):
        step(pair, some_sample(pair, seed), seed % 2)
    assert within_their_ranges(pair)
    assert all(EXPONENT_MIN <= value[0] <= EXPONENT_MAX for value in exponents(pair).values())


def test_exponents_that_are_far_too_small_find_their_way_back() -> None:
    """One step after the other, from the loss on: a gradient that saturates still leaves its true size."""
    graph, outcomes = graph_of("master, int16, steps"), []
    for start in ((EXPONENT_MIN, 2**30, -100_000), (-24, 0, 0)):
        pair = Pair(graph, 0.0)
        for name in exponents(pair):
            for memory in (pair.machine.view(name), pair.persistent[name]):
                memory[:] = start
        for _ in range(24):
            step(pair, some_sample(pair))
        outcomes.append(exponents(pair))
    assert all(abs(value[0] - outcomes[1][name][0]) <= 1 for name, value in outcomes[0].items())


# --- the same under sanitizers ---


def under_sanitizers(*command: str) -> subprocess.CompletedProcess[str]:
    from tests.sanitized import environment

    if not (env := environment()):
        pytest.skip("the compiler has no address sanitizer that can be preloaded")
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


def test_all_of_it_runs_clean_under_the_sanitizers() -> None:
    """This file in a process of its own, whose host runtime stops at the first report."""
    options = ["-p", "tests.sanitized", "-p", "no:cacheprovider", "-k", "not sanitizers", "-q"]
    result = under_sanitizers("-m", "pytest", *options, str(Path(__file__)))
    report = result.stdout[-3000:] + result.stderr[-3000:]
    assert result.returncode == 0 and "runtime error" not in result.stderr, report
    assert "[100%]" in result.stdout, report


PAST_THE_ARENA = """
import numpy as np
import tests.sanitized
from tests import nets
from tests.training import machine_of
from tinytrain.host import Machine
from tinytrain.train import Scheme, training_graph

program = machine_of(training_graph(nets.chain(), Scheme())).program
program.sizes = {space: size // 2 if space == "arena" else size for space, size in program.sizes.items()}
machine = Machine(program)
machine.set_answer(0, None)
machine.run([0])
"""


def test_the_sanitizers_do_report() -> None:
    """A program whose arena is too small stops the process: the test above can fail."""
    result = under_sanitizers("-c", PAST_THE_ARENA)
    assert result.returncode != 0 and "AddressSanitizer" in result.stderr, result.stderr[-2000:]
