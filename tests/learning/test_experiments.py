# SPDX-License-Identifier: Apache-2.0
"""benchmarks/experiments.py: what is stored is not repeated, and tables say what is stored."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tinytrain.learning import FitEpoch, SeedRun
from tinytrain.learning.task import Task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """learning_runs, with folders of its own."""
    module = importlib.import_module("learning_runs")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    return module


@pytest.fixture
def small(runs: ModuleType, task: Task, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An experiment with the small model; `small.made` counts how often it was compiled."""
    experiment = runs.Experiment("small/49kb", "small", "small", "all", 0.1, "flip", epochs=2, batch=4)
    made: list[Any] = []

    def task_of(wanted: Any) -> Task:
        made.append(wanted)
        return replace(task, settings=wanted.settings())

    monkeypatch.setattr(runs, "task_of", task_of)
    monkeypatch.setattr(runs, "prepare", lambda name: None)
    return experiment, made


def test_bytes_of_stored_runs_are_those_of_todays_kernels_and_nothing_else_changes(
    runs: ModuleType, small: Any, task: Task
) -> None:
    experiment, _ = small
    store = runs.Store(2)
    runs.run_all([experiment], store, 1)
    fresh = [store.load(experiment, seed) for seed in (0, 1)]
    for seed in (0, 1):  # as kernels with another scratch would have left it
        store._write(experiment, seed, {**fresh[seed], "sram": {**fresh[seed]["sram"], "arena": 1}})
    store.account(experiment)
    assert [store.load(experiment, seed) for seed in (0, 1)] == fresh
    assert fresh[0]["sram"] == task.sram()


def test_what_is_stored_is_not_repeated_until_the_experiment_changes(runs: ModuleType, small: Any) -> None:
    experiment, made = small
    runs.run_all([experiment], runs.Store(2), 1)
    first = [runs.Store(2).load(experiment, seed) for seed in (0, 1)]
    assert all(first) and first[0]["run"] != first[1]["run"] and len(made) == 1
    runs.run_all([experiment], runs.Store(2), 1)
    assert len(made) == 1
    runs.run_all([experiment], runs.Store(3), 1)
    assert len(made) == 2 and runs.Store(3).state(experiment) == "3 of 3 runs"
    changed = replace(experiment, lr=0.05)
    assert runs.Store(3).state(changed) == "0 of 3 runs"
    runs.run_all([experiment], runs.Store(1, fresh=True), 1)
    again = runs.Store(1).load(experiment, 0)
    assert len(made) == 3 and again["run"]["epochs"] == first[0]["run"]["epochs"]
    assert not list((runs.BUILD / "states").rglob("*.npz")), "a finished run needs no state"


def test_float_runs_are_experiments_too(runs: ModuleType, small: Any) -> None:
    pytest.importorskip("torch")
    experiment = replace(small[0], name="small/49kb/float", kind="float")
    runs.run_all([experiment], runs.Store(1), 1)
    assert runs.Store(1).load(experiment, 0)["run"]["parameters_crc32"] is None


def test_tables_compute_means_and_differences(runs: ModuleType, task: Task) -> None:
    tables = importlib.import_module("learning_tables")
    base = runs.Experiment("a/49kb", "a", "a", "49kb", 0.1, "")
    eight = replace(base, name="a/49kb/int8", overrides={"gradients": "int8"})
    store = runs.Store(3)
    for experiment, accuracies in ((base, (0.8, 0.82, 0.84)), (eight, (0.8, 0.8, 0.8))):
        for seed, accuracy in enumerate(accuracies):
            store.save(experiment, task, SeedRun(seed, 0.1, (FitEpoch(1.0, 0.5, accuracy, 7),), 48, 1.0))
    results = tables.Results({each.name: each for each in (base, eight)}, store)
    assert results.text("a/49kb") == "82.0 ± 2.0" and results.text("a/49kb/float") == "-"
    assert results.difference("a/49kb/int8", "a/49kb") == pytest.approx(-2.0)
    page = tables.gradients(results)
    assert "| a/49kb | 82.0 ± 2.0 | 80.0 ± 0.0 | -2.0 |" in page
    assert "int8 minus int16: mean -2.00, worst -2.00 points over 1." in page
    (store.path(base, 1)).unlink()
    assert results.text("a/49kb") == "-", "two of three runs are no mean over three"


def test_every_table_is_there_before_any_run(runs: ModuleType) -> None:
    experiments = importlib.import_module("experiments").experiments()
    by_name = {each.name: each for each in experiments}
    assert len(by_name) == len(experiments)
    page = importlib.import_module("learning_tables").tables(by_name, runs.Store(3))
    assert page.count("###") == 5 and page.count("flowers102/49kb") == 6
