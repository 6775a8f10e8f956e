# SPDX-License-Identifier: Apache-2.0
"""An exported model, compiled for this machine: its steps are the host's, its API refuses what it must."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.exported import BAD_ARGUMENT, OK, Exported, command, run_sanitized
from tests.training import machine_of
from tests.twins import no_undefined_behaviour
from tinytrain.graph import Graph
from tinytrain.session.schedule import schedule_of, training_steps
from tinytrain.train import Loss, Scheme, all_weights, training_graph

RATE, SEED = 0.03, 17


@pytest.mark.parametrize("seed", range(16))
def test_steps_under_the_sanitizers_give_the_hosts_bits(seed: int, tmp_path: Path) -> None:
    """Compiled as tables, run with address and undefined behaviour checks: the same CRC, loss and prediction."""
    rng = np.random.default_rng(seed)
    forward = nets.residual(seed) if seed == 0 else nets.random_net(rng)
    scheme = nets.random_scheme(rng, forward) if seed else all_weights(forward)
    scheme = nets.with_random_loss(rng, forward, scheme) if seed > 4 else scheme
    graph = training_graph(forward, scheme)
    machine = machine_of(graph, RATE, SEED)
    commands, expected = [command("r", RATE), command("s", SEED)], []
    for step in range(6):
        sample, label = nets.random_sample(rng, graph), int(rng.integers(max(2, graph["logits"].size)))
        target = rng.integers(-(2**20), 2**20, graph["logits"].size).astype(np.int32)
        if "target" in graph.tensors:
            commands.append(command("t", label, sample, target))
            loss, predicted = machine.train_step(sample, target=target / 65536)
        else:
            commands.append(command("t", label, sample))
            loss, predicted = machine.train_step(sample, label)
        expected.append((round(loss * 65536), predicted, -1, machine.parameters_crc32()))
        if step % 2:
            commands += [command("a"), command("i", sample)]
            machine.apply()
            expected.append((round(loss * 65536), predicted, -1, machine.parameters_crc32()))
            best = machine.predict(sample)
            expected.append((round(loss * 65536), predicted, best, machine.parameters_crc32()))
    lines = run_sanitized(machine.program, tmp_path, commands)
    assert all(line.status == OK for line in lines)
    assert [(line.loss, line.predicted_in_training, line.predicted, line.crc) for line in lines[2:]] == expected


def test_the_sanitizers_do_report(tmp_path: Path, chain: Graph) -> None:
    """A program whose arena is declared too small is caught: the test above can fail."""
    machine = machine_of(training_graph(chain, Scheme()))
    program = machine.program
    program.sizes = {**program.sizes, "arena": program.sizes["arena"] // 2}
    sample = np.zeros((6, 6, 3), np.int8)
    with pytest.raises(AssertionError, match=r"global-buffer-overflow|runtime error|stringop-overflow|array-bounds"):
        run_sanitized(program, tmp_path, [command("t", 0, sample)])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    forward = nets.residual()
    graph = training_graph(forward, all_weights(forward).but(classes=3))
    return Exported(tmp_path_factory.mktemp("model"), machine_of(graph).program).load_library()


@pytest.fixture
def model(exported: Exported, capfd: pytest.CaptureFixture[str]) -> Iterator[Exported]:
    """Freshly initialized; undefined behaviour fails the test."""
    with no_undefined_behaviour(capfd):
        assert exported.lib.tinytrain_init() == OK
        yield exported


def exported_with(tmp_path: Path, loss: Loss, classes: int | None) -> Exported:
    forward = nets.chain()
    graph = training_graph(forward, Scheme(classes=classes, loss=loss))
    return Exported(tmp_path, machine_of(graph).program).load_library()


def test_a_binary_model_takes_two_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with no_undefined_behaviour(capfd):
        model = exported_with(tmp_path, Loss("binary_cross_entropy"), 1)
        sample = np.zeros((6, 6, 3), np.int8)
        assert [model.train_step(sample, label) for label in (-1, 0, 1, 2)] == [BAD_ARGUMENT, OK, OK, BAD_ARGUMENT]
        model.lib.tinytrain_set_learning_rate(0.1)
        assert model.train_step(sample, 1) == OK and model.logits(sample)[0] > 0 and model.lib.tinytrain_predict() == 1
        for _ in range(3):
            model.train_step(sample, 0)
        assert model.logits(sample)[0] < 0 and model.lib.tinytrain_predict() == 0
        assert "#define TINYTRAIN_OUTPUTS 1\n#define TINYTRAIN_CLASSES 2\n" in model.header


def test_a_regression_model_takes_targets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with no_undefined_behaviour(capfd):
        model = exported_with(tmp_path, Loss("mean_squared_error", target="given"), None)
        sample = np.zeros((6, 6, 3), np.int8)
        outputs = model.logits(sample)
        model.lib.tinytrain_set_learning_rate(0.1)
        before = model.crc()
        model.put(sample)
        assert model.lib.tinytrain_train_target(model.ffi.NULL) == BAD_ARGUMENT and model.crc() == before
        assert model.lib.tinytrain_train_target(outputs) == OK and model.lib.tinytrain_loss() == 0
        model.put(sample)
        assert model.lib.tinytrain_train_target([value + 65536 for value in outputs]) == OK
        assert model.lib.tinytrain_loss() == 65536 and model.crc() != before
    assert "tinytrain_train_step" not in model.header and "tinytrain_predict" not in model.header
    assert "#define TINYTRAIN_CLASSES 0\n#define TINYTRAIN_TARGETS 4 " in model.header


def test_an_auto_encoder_takes_nothing_but_the_sample(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with no_undefined_behaviour(capfd):
        model = exported_with(tmp_path, Loss("mean_squared_error"), 108)
        sample = np.random.default_rng(0).integers(-128, 128, (6, 6, 3)).astype(np.int8)
        model.lib.tinytrain_set_learning_rate(1.0)
        losses = []
        for _ in range(8):
            model.put(sample)
            assert model.lib.tinytrain_train_reconstruct() == OK
            losses.append(model.lib.tinytrain_loss())
        real = (sample.astype(float) - 3) * nets.SCALE
        assert abs(losses[0] / 65536 - (real**2).mean()) < 1e-3, "a new head of zeros: the loss is the sample's power"
        assert losses[-1] < losses[0]
    assert "tinytrain_train_step" not in model.header


def sample_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (8, 8, 3)).astype(np.int8)


@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1, -(2**31)])
def test_a_label_outside_the_classes_is_refused_and_changes_nothing(model: Exported, label: int) -> None:
    model.lib.tinytrain_set_learning_rate(0.1)
    model.train_step(sample_of(0), 1)
    before = model.crc(), model.lib.tinytrain_loss()
    assert model.train_step(sample_of(1), label) == BAD_ARGUMENT
    assert (model.crc(), model.lib.tinytrain_loss()) == before


@pytest.mark.parametrize("rate", [-0.5, math.nan, math.inf, -math.inf])
def test_a_rate_that_is_no_rate_is_refused_and_changes_nothing(model: Exported, rate: float) -> None:
    machine = machine_of(training_graph(nets.residual(), all_weights(nets.residual()).but(classes=3)), 0.1)
    assert model.lib.tinytrain_set_learning_rate(0.1) == OK
    assert model.lib.tinytrain_set_learning_rate(rate) == BAD_ARGUMENT
    assert model.train_step(sample_of(0), 1) == OK
    machine.train_step(sample_of(0), 1)
    assert model.crc() == machine.parameters_crc32(), "the rate of before is still in force"


def test_without_a_rate_nothing_is_learned(model: Exported) -> None:
    before = model.crc()
    assert model.train_step(sample_of(0), 1) == OK
    assert model.crc() == before


def test_init_forgets_what_was_learned(model: Exported) -> None:
    before, first = model.crc(), model.logits(sample_of(0))
    model.lib.tinytrain_set_learning_rate(0.1)
    for step in range(4):
        model.train_step(sample_of(step), step % 3)
    assert model.crc() != before and model.logits(sample_of(0)) != first
    assert model.lib.tinytrain_init() == OK
    assert model.crc() == before and model.logits(sample_of(0)) == first


def test_the_prediction_is_the_largest_logit_and_of_equals_the_first(model: Exported) -> None:
    assert model.logits(sample_of(0)) == [0, 0, 0] and model.lib.tinytrain_predict() == 0  # a new head
    model.lib.tinytrain_set_learning_rate(0.1)
    for step in range(6):
        model.train_step(sample_of(step), 2)
    logits = model.logits(sample_of(0))
    assert model.lib.tinytrain_predict() == int(np.argmax(logits)) == 2


def test_apply_does_nothing_where_nothing_accumulates(model: Exported) -> None:
    model.lib.tinytrain_set_learning_rate(0.1)
    model.train_step(sample_of(0), 1)
    before = model.crc()
    assert model.lib.tinytrain_apply() == OK and model.crc() == before
    assert "#define TINYTRAIN_ACCUMULATES 0" in model.header


def test_the_header_states_the_models_numbers(model: Exported) -> None:
    assert "#define TINYTRAIN_INPUT_BYTES 192 " in model.header
    assert "#define TINYTRAIN_OUTPUTS 3\n#define TINYTRAIN_CLASSES 3\n" in model.header
    assert f"#define TINYTRAIN_ARENA_BYTES {model.program.sizes['arena']}\n" in model.header


def test_a_device_alone_follows_the_schedule_of_a_run(model: Exported) -> None:
    """Warm-up and cosine computed by the firmware's own code: the bits of a host that is given each rate."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 10)
    steps = training_steps(labels, epochs=2, lr=0.05, seed=3)
    planned = schedule_of("cosine", 0.05, len(steps))
    machine = machine_of(training_graph(nets.residual(), all_weights(nets.residual()).but(classes=3)))
    schedule = {"kind": 1, "rate": planned.rate, "warm_up": planned.warm_up, "total": planned.total, "period": 1}
    schedule = model.ffi.new("tt_schedule *", schedule)
    for update, step in enumerate(steps):
        assert model.lib.tinytrain_set_scheduled_rate(schedule, update, 1) == OK
        model.train_step(sample_of(step.sample), step.label)
        machine.set_learning_rate(step.rate)
        machine.train_step(sample_of(step.sample), step.label)
    assert model.lib.tinytrain_parameters_crc32() == machine.parameters_crc32()


@pytest.mark.parametrize("samples", [0, 65536])
def test_a_batch_of_no_size_is_refused(model: Exported, samples: int) -> None:
    assert model.lib.tinytrain_set_batch_rate(0.1, samples) == BAD_ARGUMENT
    assert model.lib.tinytrain_set_batch_rate(0.1, 8) == OK
