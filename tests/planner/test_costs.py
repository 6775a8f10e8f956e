# SPDX-License-Identifier: Apache-2.0
"""The planner's instruction counts: a fitted model, held to what emulated boards count; and the time made of them."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests import nets
from tinytrain.boards import all_boards, load
from tinytrain.cli.tables import latency_text, rough
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.memory import lay_out
from tinytrain.planner import Plan, costs, export_plan, latency, make_plan
from tinytrain.planner.make import Samples
from tinytrain.program import Program, lower
from tinytrain.session import profile_firmware
from tinytrain.train import Scheme, all_weights, load_scheme, training_graph

ROOT = Path(__file__).resolve().parents[2]
PINNED = json.loads((ROOT / "tests" / "end_to_end" / "instruction_counts.json").read_text())["boards"]
CORES = {board.core for board in all_boards()}
FITTED_TOLERANCE = 0.05  # of a network it was fitted to
# of one it was not, of small layers, where what is done once per call weighs most; with vectors more than elsewhere
UNSEEN_TOLERANCE = {"mps2-an385": 0.25, "mps2-an500": 0.25, "mps3-an547": 0.4}


def program_of(graph: Graph) -> Program:
    return lower(graph, lay_out(graph))


@pytest.fixture(scope="module")
def mcunet() -> Program:
    """The network and scheme of the pinned counts."""
    data = ROOT / "examples" / "data"
    forward = load_model(data / "mcunet-5fps.onnx")
    scheme = load_scheme(data / "sparse_update_schemes.json", forward, "mcunet-5fps/49kb").but(classes=10)
    return program_of(training_graph(forward, scheme))


@pytest.mark.parametrize("board", PINNED)
def test_the_model_gives_what_an_emulated_board_counted(board: str, mcunet: Program) -> None:
    found, counted = costs.estimate(mcunet, load(board).core), PINNED[board]
    assert found is not None and found.known == 1.0
    for name, value in (("inference", found.inference), ("train_step", found.train_step)):
        off = value / counted[name] - 1
        assert abs(off) <= FITTED_TOLERANCE, f"{name} on {board} is off by {off:+.1%}: make bench BENCH=--fit"


@pytest.mark.boards
@pytest.mark.parametrize("board", UNSEEN_TOLERANCE)
def test_the_model_holds_for_a_network_it_was_not_fitted_to(
    board: str, model: Path, samples: Samples, tmp_path: Path
) -> None:
    plan = make_plan(model, load(board), samples=samples, scheme=all_weights)
    counted = profile_firmware(export_plan(plan, tmp_path / "firmware"), samples.x[0], int(samples.y[0]))
    assert plan.instructions is not None and plan.instructions.known == 1.0
    for found, value in (
        (plan.instructions.inference, counted.inference), (plan.instructions.train_step, counted.train_step),
    ):  # fmt: skip
        assert abs(found / value - 1) <= UNSEEN_TOLERANCE[board], f"{found:,} estimated, {value:,} counted"


def test_every_core_of_a_board_has_a_model_and_a_pace() -> None:
    document = json.loads(costs.PATH.read_text())
    assert set(document["cores"]) == set(costs.models()) == set(latency.PACES) == CORES
    for model in costs.models().values():
        assert costs.ANY in model.kernels and model.row >= 0
        for terms in model.kernels.values():
            assert terms and all(value >= 0 and math.isfinite(value) for value in terms.values())


def test_what_the_file_says_of_its_own_errors_is_small() -> None:
    """Networks that were left out of the fit, by those who made it."""
    for core, entry in json.loads(costs.PATH.read_text())["cores"].items():
        for work, errors in entry["held_out_error"].items():
            assert all(abs(error) < 0.2 for error in errors.values()), (core, work, errors)


def test_more_training_is_estimated_to_cost_more(residual: Graph) -> None:
    little, much = (program_of(training_graph(residual, scheme)) for scheme in (Scheme(), all_weights(residual)))
    for core in CORES:
        less, more = costs.estimate(little, core), costs.estimate(much, core)
        assert less is not None and more is not None
        assert less.inference == more.inference and less.train_step < more.train_step
        assert 0 < less.inference < less.train_step


def test_a_kernel_nobody_fitted_has_a_share_that_is_not_known(residual: Graph) -> None:
    model = costs.models()["cortex-m7"]
    left = {name: terms for name, terms in model.kernels.items() if not name.startswith("tt_depthwise_conv2d_s8")}
    program = program_of(training_graph(residual, all_weights(residual)))
    found = replace(model, kernels=left).estimate(program)
    assert 0.3 < found.known < 1.0 == model.estimate(program).known


def test_a_core_nobody_knows_has_no_estimate(residual: Graph) -> None:
    assert costs.estimate(program_of(training_graph(residual, Scheme())), "cortex-m85") is None
    assert latency.latency(replace(load("nrf52840"), core="cortex-m85"), 1, 2) is None
    assert latency.latency(replace(load("nrf52840"), core_hz=None), 1, 2) is None


def test_any_network_has_an_estimate() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        forward = nets.random_net(rng)
        found = costs.estimate(program_of(training_graph(forward, nets.random_scheme(rng, forward))), "cortex-m4")
        assert found is not None and found.train_step > found.inference > 0 and 0 <= found.known <= 1


# --- time ---


def test_the_measured_step_is_what_time_is_calibrated_on() -> None:
    found = latency.latency(load("stm32f746"), 65_030_000, latency.MEASURED_INSTRUCTIONS)
    assert found is not None and found.train_step_ms == pytest.approx(546, rel=1e-3)
    assert found.cycles_per_instruction == pytest.approx(1.109, abs=5e-4) and "546 ms" in found.basis
    twice = latency.latency(load("stm32h743"), 65_030_000, latency.MEASURED_INSTRUCTIONS)
    assert twice is not None and twice.train_step_ms == pytest.approx(546 * 216 / 480, rel=1e-3)


def test_what_is_not_calibrated_says_that_it_is_assumed() -> None:
    for core, pace in latency.PACES.items():
        assert pace.basis.startswith("calibrated" if core == "cortex-m7" else "assumed"), core
        assert 1 <= pace.cycles < 2.5


def test_a_plan_tells_instructions_and_time_as_estimates(plan: Plan) -> None:
    document, found = plan.as_dict(), plan.latency
    assert found is not None and plan.instructions is not None
    assert document["instructions"]["train_step"] == plan.instructions.train_step > 0
    time = document["latency"]
    assert time["estimate"] is True and time["core_hz"] == 64_000_000
    assert time["train_step_ms"] == pytest.approx(plan.instructions.train_step * 1.6 / 64_000, rel=1e-3)
    assert "not measured" in latency_text(found) and "64 MHz" in latency_text(found)
    unknown = plan.but(board=replace(plan.board, core="cortex-m85"))
    assert unknown.as_dict()["instructions"] == {"inference": None, "train_step": None}
    assert unknown.as_dict()["latency"] is None


@pytest.mark.parametrize(
    ("count", "text"), [(34_512_345, "34.5 M"), (1_230_000_000, "1,230 M"), (862_454, "862 thousand"), (999, "999")]
)
def test_estimates_are_printed_with_the_digits_that_mean_something(count: int, text: str) -> None:
    assert rough(count) == text


# --- fitting ---


@pytest.fixture
def fit_costs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fit_costs")


def test_a_fit_finds_the_costs_that_made_its_samples(fit_costs: ModuleType, mcunet: Program) -> None:
    rows = [row for row in mcunet.rows if row.label == "tt_conv2d_s8 1x1"]
    samples = [(row, round(0.7 * row.macs + 12 * row.writes)) for row in rows]
    found = fit_costs.combination(samples)
    assert set(found) == {"mac", "write"}
    assert found["mac"] == pytest.approx(0.7, rel=0.01) and found["write"] == pytest.approx(12, rel=0.01)


def test_one_sample_is_taken_as_proportional(fit_costs: ModuleType, mcunet: Program) -> None:
    row = next(row for row in mcunet.rows if row.macs)
    assert fit_costs.combination([(row, 3 * row.macs)]) == {"mac": 3.0}
    assert fit_costs.combination([(row, 3 * row.macs)] * 4) == {"mac": 3.0}


def test_fitted_kernels_have_an_entry_by_window_by_name_and_for_any(fit_costs: ModuleType, mcunet: Program) -> None:
    samples = [(row, 2 * max(row.macs, row.reads) + 10) for row in mcunet.rows]
    found = fit_costs.fitted_kernels(samples)
    assert {row.label for row in mcunet.rows} | {row.kernel for row in mcunet.rows} | {costs.ANY} == set(found)
    document = {"cores": {"some-core": {"row": 0.0, "kernels": found}}}
    estimate = costs.read(document)["some-core"].estimate(mcunet)
    assert estimate.train_step == pytest.approx(sum(count for _, count in samples), rel=0.02)
