# SPDX-License-Identifier: Apache-2.0
"""Real networks, whole training runs: the same bits on the host and on every core, every byte where it was planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.small import SIZE, write_model
from tinytrain import emulate
from tinytrain.boards import load
from tinytrain.data import InputSpec, gather_samples, load_data
from tinytrain.frontends import load_model
from tinytrain.graph import Role
from tinytrain.host import Machine
from tinytrain.planner import Plan, export_plan, make_plan
from tinytrain.planner.make import Samples
from tinytrain.train import LayerUpdate, Loss, Scheme, Slice, all_weights, load_scheme

DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
CORES = ["mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547"]
RATE, STACK = 0.003, 4096

pytestmark = [pytest.mark.boards, pytest.mark.slow]


@pytest.fixture(scope="module")
def pets() -> Samples:
    spec = InputSpec.of(load_model(DATA / "mcunet-5fps.onnx"))
    data = load_data(DATA / "pets3.npz", spec)
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[:24]
    return Samples(gather_samples(data.x_train, chosen, spec), data.y_train[chosen], data.class_count)


def published(graph):
    return load_scheme(DATA / "sparse_update_schemes.json", graph, "mcunet-5fps/49kb")


@pytest.fixture(scope="module")
def mcunet(pets: Samples) -> Plan:
    board = load("stm32f746").narrowed(sram=256 * 1024, flash=1024 * 1024)
    return make_plan(DATA / "mcunet-5fps.onnx", board, samples=pets, scheme=published)


def crc_on_host(plan: Plan, samples: Samples, steps: int) -> int:
    machine = Machine(plan.program())
    machine.set_learning_rate(RATE)
    for sample, label in zip(samples.x[:steps], samples.y[:steps], strict=True):
        machine.train_step(sample, int(label))
    return machine.parameters_crc32()


def run_on(plan: Plan, folder: Path, samples: Samples, steps: int) -> emulate.BoardReport:
    stream = emulate.CommandStream().learning_rate(RATE)
    for index in range(steps):
        stream.train(index, int(samples.y[index]))
    return emulate.run(export_plan(plan, folder), stream, samples.x)


@pytest.mark.parametrize("name", CORES)
def test_mcunet_learns_the_same_bits_on_every_core(name: str, mcunet: Plan, pets: Samples, tmp_path: Path) -> None:
    plan = mcunet.but(board=load(name), sram=replace(mcunet.sram, stack=STACK))  # other twins take other stacks
    assert run_on(plan, tmp_path / "fw", pets, 8).final.parameters_crc32 == crc_on_host(plan, pets, 8)


@pytest.mark.shared
@pytest.mark.parametrize("name", [*CORES, "rp2040"])
def test_kws_trains_all_weights_to_the_same_bits_on_every_core(name: str, shared: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = Samples(rng.integers(-128, 128, (12, 49, 10, 1)).astype(np.int8), rng.integers(0, 12, 12), 12)
    model = shared / "data" / "models" / "mlperf_tiny" / "kws_dscnn_int8.tflite"
    plan = make_plan(model, load(name), samples=samples, scheme=all_weights)
    assert run_on(plan, tmp_path / "fw", samples, 12).final.parameters_crc32 == crc_on_host(plan, samples, 12)


def test_eight_bit_gradients_learn_the_same_bits_on_a_board(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = Samples(rng.integers(-128, 128, (12, SIZE, SIZE, 3)).astype(np.int8), rng.integers(0, 4, 12), 4)
    plan = make_plan(
        write_model(tmp_path / "small.onnx"), load("mps2-an386"), samples=samples,
        scheme=lambda graph: all_weights(graph).but(gradients="int8"),
    )  # fmt: skip
    gradients = [tensor for tensor in plan.program().tensors.values() if tensor.role is Role.GRADIENT]
    assert [tensor.name for tensor in gradients if tensor.dtype != "int8"] == ["logits.gradient"]
    assert run_on(plan, tmp_path / "fw", samples, 12).final.parameters_crc32 == crc_on_host(plan, samples, 12)


@pytest.mark.shared
@pytest.mark.parametrize("name", CORES)
def test_the_machine_sound_auto_encoder_learns_the_same_bits_on_every_core(
    name: str, shared: Path, tmp_path: Path
) -> None:
    """Squared errors against the sample itself: no labels, a delayed exponent from the loss on."""
    rng = np.random.default_rng(0)
    frames = np.clip(rng.normal(0, 30, (10, 1)) + rng.normal(0, 20, (10, 640)), -128, 127).astype(np.int8)
    samples = Samples(frames, np.zeros(10, np.int64))
    model = shared / "data" / "models" / "mlperf_tiny" / "ad01_int8.tflite"
    scheme = Scheme({"functional_1/activation_8/Relu;functional_1/dense_8/BiasAdd": LayerUpdate(True, Slice("all"))})
    plan = make_plan(model, load(name), samples=samples, scheme=scheme, loss=Loss("mean_squared_error"))
    report = run_on(plan, tmp_path / "fw", samples, 10)
    assert report.final.parameters_crc32 == crc_on_host(plan, samples, 10) != crc_on_host(plan, samples, 0)


def test_planned_linked_and_measured_bytes_are_equal(mcunet: Plan, pets: Samples, tmp_path: Path) -> None:
    report = run_on(mcunet, tmp_path / "fw", pets, 3)
    sizes = emulate.sections(tmp_path / "fw" / "build" / "firmware.elf")
    assert mcunet.sram.total == sizes.sram <= 256 * 1024
    assert mcunet.flash.total == sizes.flash <= 1024 * 1024
    assert mcunet.sram.arena == sizes.symbols["tt_arena"] == report.final.arena_used
    assert mcunet.sram.parameters == sizes.symbols["tt_parameters"]
    assert mcunet.sram.masters == sizes.symbols["tt_masters"]
    assert mcunet.sram.optimizer == sizes.symbols["tt_optimizer"]
    stack = report.final.stack_used + report.final.handler_stack_used
    assert stack <= mcunet.sram.stack == sizes.stack + sizes.handler_stack


def test_the_planner_fills_the_budget_and_keeps_it(pets: Samples, tmp_path: Path) -> None:
    """Without a scheme the planner chooses one; what it promises is what links and runs."""
    board = load("stm32f746").narrowed(sram=224 * 1024)
    plan = make_plan(DATA / "mcunet-5fps.onnx", board, samples=pets)
    assert plan.scheme.layers, "224 KB leave room for more than the classifier"
    assert 0.97 * board.sram.size < plan.sram.total <= board.sram.size
    report = run_on(plan, tmp_path / "fw", pets, 4)
    assert emulate.sections(tmp_path / "fw" / "build" / "firmware.elf").sram == plan.sram.total
    assert report.final.parameters_crc32 == crc_on_host(plan, pets, 4)


def test_a_batch_is_accumulated_alike_on_host_and_board(pets: Samples, tmp_path: Path) -> None:
    plan = make_plan(DATA / "mcunet-5fps.onnx", load("stm32h743"), samples=pets, scheme=published, accumulate=True)
    machine = Machine(plan.program())
    machine.set_learning_rate(RATE)
    stream = emulate.CommandStream().learning_rate(RATE)
    for index in range(6):
        stream.train(index, int(pets.y[index]))
        machine.train_step(pets.x[index], int(pets.y[index]))
        if index % 3 == 2:
            stream.apply()
            machine.apply()
    report = emulate.run(export_plan(plan, tmp_path / "fw"), stream, pets.x)
    assert report.final.parameters_crc32 == machine.parameters_crc32() != Machine(plan.program()).parameters_crc32()
