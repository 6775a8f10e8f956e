# SPDX-License-Identifier: Apache-2.0
"""A program in this process: inputs are checked, nothing carries over but what should, and steps repeat."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from tests import nets
from tests.training import machine_of
from tinytrain.errors import DataError
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.ops import evaluate
from tinytrain.program import Space
from tinytrain.train import Loss, Scheme, all_weights, training_graph


@pytest.fixture
def machine(residual: Graph) -> Machine:
    return machine_of(training_graph(residual, all_weights(residual).but(classes=3)), 0.05)


def steps(machine: Machine, count: int, seed: int = 0) -> list[tuple[float, int]]:
    rng = np.random.default_rng(seed)
    shape = machine.view(machine.program.input).shape
    return [
        machine.train_step(rng.integers(-128, 128, shape).astype(np.int8), int(rng.integers(3))) for _ in range(count)
    ]


def test_inference_equals_the_forward_graph_and_changes_nothing(residual: Graph, machine: Machine) -> None:
    sample = nets.random_sample(np.random.default_rng(1), residual)
    graph = training_graph(residual, all_weights(residual).but(classes=3))
    before = machine.parameters_crc32()
    np.testing.assert_array_equal(
        machine.infer(sample), evaluate(graph, {"x": sample, "label": np.zeros(1, np.int32)})["logits"]
    )
    assert machine.parameters_crc32() == before
    assert machine.view("hyper")[3] == 0


def test_the_own_head_predicts_what_the_model_predicts(chain: Graph, rng: np.random.Generator) -> None:
    """Before any step: the int16 head on the same features, so only rounding of the int8 logits can differ."""
    machine = machine_of(training_graph(chain, Scheme()))
    scale = chain["head.y"].scale
    for _ in range(20):
        sample = nets.random_sample(rng, chain)
        want = (evaluate(chain, {"x": sample})["head.y"].astype(float) - chain["head.y"].zero_point) * scale
        got = machine.infer(sample) / 65536
        inside = (want > -127 * scale) & (want < 126 * scale)
        assert inside.any()
        np.testing.assert_allclose(got[inside], want[inside], atol=0.51 * scale)


def test_the_same_steps_give_the_same_bits_after_a_reset(machine: Machine) -> None:
    first, crc = steps(machine, 5), machine.parameters_crc32()
    machine.reset()
    assert machine.parameters_crc32() != crc
    machine.set_learning_rate(0.05)
    machine.set_seed(1)
    assert steps(machine, 5) == first and machine.parameters_crc32() == crc


def test_two_machines_of_one_program_share_nothing(machine: Machine) -> None:
    other = Machine(machine.program)
    before = other.parameters_crc32()
    steps(machine, 2)
    assert other.parameters_crc32() == before != machine.parameters_crc32()


def test_a_learning_rate_of_zero_trains_nothing(machine: Machine) -> None:
    before = machine.parameters_crc32()
    machine.set_learning_rate(0.0)
    steps(machine, 3)
    assert machine.parameters_crc32() == before


def test_the_crc_is_that_of_parameters_and_masters(machine: Machine) -> None:
    steps(machine, 1)
    whole = machine.memory[Space.PARAMETERS].tobytes() + machine.memory[Space.MASTERS].tobytes()
    assert machine.parameters_crc32() == zlib.crc32(whole)


@pytest.mark.parametrize("update", ["master", "stochastic"])
def test_the_seed_matters_to_stochastic_rounding_alone(residual: Graph, update: str) -> None:
    graph = training_graph(residual, all_weights(residual).but(update=update))
    crcs = set()
    for seed in (1, 2, 2**32 + 1):
        machine = machine_of(graph, 0.01, seed)
        steps(machine, 2)
        crcs.add(machine.parameters_crc32())
    assert len(crcs) == (1 if update == "master" else 2)  # a seed has 32 bits


def test_steps_are_counted(machine: Machine) -> None:
    steps(machine, 3)
    assert machine.view("hyper")[3] == 3


@pytest.mark.parametrize("label", [-1, 3, 2**31, None])
def test_a_label_outside_the_classes_is_refused_and_changes_nothing(machine: Machine, label: int | None) -> None:
    steps(machine, 1)
    before, state = machine.parameters_crc32(), machine.memory[Space.STATE].copy()
    with pytest.raises(DataError, match="labels are 0 to 2"):
        machine.train_step(np.zeros((8, 8, 3), np.int8), label)
    assert machine.parameters_crc32() == before
    np.testing.assert_array_equal(machine.memory[Space.STATE], state)


def test_a_binary_model_has_the_labels_0_and_1(chain: Graph) -> None:
    machine = machine_of(training_graph(chain, Scheme(classes=1, loss=Loss("binary_cross_entropy"))), 0.05)
    sample = np.zeros((6, 6, 3), np.int8)
    assert [machine.train_step(sample, label)[1] for label in (1, 1)] == [0, 1]
    with pytest.raises(DataError, match="labels are 0 to 1"):
        machine.train_step(sample, 2)
    assert machine.predict(sample) == 1 and machine.infer(sample)[0] > 0


def test_targets_are_given_where_they_are_needed_and_only_there(machine: Machine, chain: Graph) -> None:
    sample = np.zeros((8, 8, 3), np.int8)
    with pytest.raises(DataError, match="takes no target"):
        machine.train_step(sample, 0, target=np.zeros(3))
    regression = machine_of(training_graph(chain, Scheme(loss=Loss("mean_squared_error", target="given"))))
    sample = np.zeros((6, 6, 3), np.int8)
    with pytest.raises(DataError, match="needs a target"):
        regression.train_step(sample)
    for target in (np.zeros(3), np.zeros((2, 4)), np.array([0, 0, np.nan, 0]), np.array([0, np.inf, 0, 0])):
        with pytest.raises(DataError, match="the model has 4 outputs"):
            regression.train_step(sample, target=target)
    outputs = regression.infer(sample) / 65536
    assert regression.train_step(sample, target=outputs) == (0.0, 0)
    assert regression.train_step(sample, target=outputs.reshape(2, 2) + 0.5) == (0.25, 0)
    assert regression.train_step(sample, target=np.full(4, 1e30))[0] == (2**31 - 1) / 65536
    assert regression.predict(sample) == 0


def test_a_sample_of_another_shape_or_dtype_is_refused(machine: Machine) -> None:
    for sample in (np.zeros((8, 8, 4), np.int8), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.int8)):
        with pytest.raises(DataError, match=r"the model takes int8\[8, 8, 3\]"):
            machine.infer(sample)
        with pytest.raises(DataError):
            machine.train_step(sample, 0)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf, -math.inf])
def test_a_learning_rate_that_is_no_rate_is_refused(machine: Machine, rate: float) -> None:
    machine.set_learning_rate(0.25)
    before = machine.view("hyper").copy()
    with pytest.raises(DataError, match="learning rate"):
        machine.set_learning_rate(rate)
    np.testing.assert_array_equal(machine.view("hyper"), before)


@pytest.mark.parametrize("rate", [0.0, 1e-45, 1.1754942e-38, 0.01, 1.0, 3.4e38])
def test_a_learning_rate_is_kept_exactly_as_float32(machine: Machine, rate: float) -> None:
    machine.set_learning_rate(rate)
    mantissa, exponent = (int(value) for value in machine.view("hyper")[:2].view(np.int32))
    assert math.ldexp(mantissa, exponent - 31) == float(np.float32(rate))


def test_every_tensor_with_an_address_can_be_looked_at(machine: Machine) -> None:
    for name, tensor in machine.program.tensors.items():
        if name in machine.program.locations:
            value = machine.view(name)
            assert value.shape == ((tensor.nbytes,) if tensor.dtype == "bit" else tensor.shape)


def test_reading_copies_and_viewing_does_not(machine: Machine) -> None:
    copy = machine.read("head.head.bias")
    machine.view("head.head.bias")[:] = 7
    assert not (copy == 7).any() and (machine.read("head.head.bias") == 7).all()
