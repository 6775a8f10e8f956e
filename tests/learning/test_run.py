# SPDX-License-Identifier: Apache-2.0
"""A training is that of a board, whatever is cached, resumed or spread over processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.onnx_file import OnnxFile
from tests.learning.conftest import SCHEME
from tinytrain import api
from tinytrain.augment import Augment
from tinytrain.data import InputSpec, load_data
from tinytrain.errors import DataError, OutputError, SchemeError
from tinytrain.host.prefix import PrefixCache
from tinytrain.learning import FitProgress, FitReport, SeedRun
from tinytrain.learning.checkpoint import Checkpoint
from tinytrain.learning.run import Run
from tinytrain.learning.task import Task
from tinytrain.session import prepare, replay

CACHE = 1 << 26


def finished(task: Task, seed: int = 0, limit: int = CACHE) -> SeedRun:
    return replace(Run(task, seed, PrefixCache(task.prefix, limit)).finish(lambda moment: None), seconds=0)


def test_it_computes_what_a_boards_session_computes(task: Task, small_data: Path) -> None:
    """The commands a board gets, carried out by the host's replay: same parameters after every epoch, same results."""
    spec = InputSpec.of(task.forward)
    steps = task.settings.steps(task.train.y, 5)
    session = prepare(load_data(small_data, spec), spec, steps, eval_count=None, seed=5, accumulates=True)
    board = replay(task.program, session.stream, session.samples, progress_every=1 << 20)
    run = finished(task, 5)
    assert [epoch.parameters_crc32 for epoch in run.epochs] == board.crcs[:-1]
    tests = [each.accuracy for each in board.passes if each.kind == "eval"]
    assert (run.before, run.accuracy) == (tests[0], tests[-1])
    for epoch, seen in zip(run.epochs, (each for each in board.passes if each.kind == "train"), strict=True):
        assert (epoch.loss, epoch.train_accuracy) == (pytest.approx(seen.loss, abs=1e-4), seen.accuracy)


@pytest.mark.parametrize("augment", [Augment(), Augment(flip=True), Augment(flip=True, shift=2, crop=0.75, gain=0.2)])
def test_the_cache_changes_no_bit(task: Task, augment: Augment) -> None:
    changed = replace(task, settings=replace(task.settings, augment=augment))
    assert 0 < changed.prefix.rows < len(changed.program.rows)
    whole = finished(changed)
    assert whole == finished(changed, limit=0) == finished(changed, limit=20 * changed.prefix.nbytes)
    assert len({epoch.parameters_crc32 for epoch in whole.epochs}) == 3


def test_a_seed_and_an_augmentation_make_a_difference(task: Task) -> None:
    moved = replace(task, settings=replace(task.settings, augment=Augment(shift=3)))
    crcs = {finished(one, seed).epochs[-1].parameters_crc32 for one in (task, moved) for seed in (0, 1)}
    assert len(crcs) == 4


def test_it_learns(task: Task) -> None:
    run = finished(task)
    assert run.before is not None and run.accuracy is not None and run.accuracy > run.before + 0.2
    assert run.epochs[-1].loss < 0.8 * run.epochs[0].loss


# --- resuming ---


class Stop(Exception):
    pass


def interrupted(task: Task, file: Checkpoint, at: int) -> None:
    """Train until some step, where it breaks off."""

    def progress(moment: FitProgress) -> None:
        if moment.stage == "train" and moment.done >= at:
            raise Stop

    with pytest.raises(Stop):
        Run(task, 0, PrefixCache(task.prefix, CACHE), file).finish(progress)


@pytest.mark.parametrize("scheme", [{}, {"update": "stochastic"}])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, task: Task, scheme: dict[str, str]) -> None:
    task = changed_scheme(task, scheme)
    whole = finished(task)
    file = Checkpoint.of(tmp_path / "state", task.digest, 0)
    for at in (16, 90):  # in the first epoch of 48 steps, where nothing is kept yet, and in the second
        interrupted(task, file, at)
    run = Run(task, 0, PrefixCache(task.prefix, CACHE), file)
    assert run.state.steps == 48 and len(run.state.epochs) == 1
    assert replace(run.finish(lambda moment: None), seconds=0) == whole
    again = Run(task, 0, PrefixCache(task.prefix, CACHE), file).finish(pytest.fail)
    assert replace(again, seconds=0) == whole, "a finished training is not repeated"


def changed_scheme(task: Task, fields: dict[str, str]) -> Task:
    from tinytrain.learning.task import compiled

    scheme = task.scheme.but(**fields)
    program, prefix = compiled(task.forward, scheme, task.exponents)
    return replace(task, scheme=scheme, program=program, prefix=prefix)


def test_a_killed_command_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, small_model: Path, small_data: Path
) -> None:
    state = tmp_path / "state"
    kill = (
        "import os, signal, sys, tinytrain\n"
        "def progress(moment):\n"
        "    if moment.stage == 'train' and moment.done >= 64: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"tinytrain.fit(sys.argv[1], sys.argv[2], scheme={SCHEME!r}, epochs=3, checkpoint=sys.argv[3],\n"
        "    head_start=False, progress=progress)\n"
    )
    killed = subprocess.run([sys.executable, "-c", kill, small_model, small_data, state], env=os.environ)
    assert killed.returncode == -signal.SIGKILL and [file.name for file in state.iterdir()] == ["seed-0.npz"]

    def fitted(checkpoint: Path | None) -> FitReport:
        return api.fit(small_model, small_data, scheme=SCHEME, epochs=3, checkpoint=checkpoint, head_start=False)

    seen = [[epoch.parameters_crc32 for epoch in fitted(folder).runs[0].epochs] for folder in (state, None)]
    assert seen[0] == seen[1] and len(seen[0]) == 3


def test_a_state_of_another_training_is_refused(tmp_path: Path, task: Task) -> None:
    file = Checkpoint.of(tmp_path, task.digest, 0)
    interrupted(task, file, 60)
    for other in (replace(task, settings=replace(task.settings, lr=0.2)), changed_scheme(task, {"scaling": "none"})):
        assert other.digest != task.digest
        with pytest.raises(DataError, match="state of another training"):
            Run(other, 0, PrefixCache(task.prefix, 0), Checkpoint.of(tmp_path, other.digest, 0))
    less = replace(task, settings=replace(task.settings, cache=1))
    assert less.digest == task.digest, "what is cached changes nothing"


def test_a_damaged_state_is_refused(tmp_path: Path, task: Task) -> None:
    file = Checkpoint.of(tmp_path, task.digest, 0)
    interrupted(task, file, 60)
    whole = file.path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"nonsense"):
        file.path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            Run(task, 0, PrefixCache(task.prefix, 0), file)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        Checkpoint.of(tmp_path / "file" / "state", "", 0)


# --- the whole ---


def fitted(small_model: Path, small_data: Path, **options: object) -> FitReport:
    return api.fit(small_model, small_data, **{"scheme": SCHEME, "epochs": 2, **options})  # type: ignore[arg-type]


def test_processes_change_no_bit(small_model: Path, small_data: Path) -> None:
    seen: list[FitProgress] = []
    spread = fitted(small_model, small_data, seeds=2, jobs=2, head_start=False, progress=seen.append)
    alone = fitted(small_model, small_data, seeds=2, head_start=False)
    for mine, other in zip(spread.runs, alone.runs, strict=True):
        assert replace(mine, seconds=0) == replace(other, seconds=0)
    assert {moment.seed for moment in seen} == {0, 1}


def test_overrides_change_the_scheme(small_model: Path, small_data: Path) -> None:
    report = fitted(small_model, small_data, overrides={"update": "stochastic", "scaling": "none"}, head_start=False)
    assert report.scheme["update"] == "stochastic" and report.scheme["scaling"] == "none"
    assert report.scheme["accumulate"] is True and report.sram["masters"] == 0
    for wrong in ({"update": "none"}, {"layers": {}}, {"optimizer": {"kind": "sgd", "beta": 1}}, {"loss": "mean"}):
        with pytest.raises(SchemeError):
            fitted(small_model, small_data, overrides=wrong)


def test_batches_of_one_do_not_accumulate(small_model: Path, small_data: Path) -> None:
    report = fitted(small_model, small_data, batch=1, head_start=False)
    assert report.scheme["accumulate"] is False
    batched = fitted(small_model, small_data, head_start=False)
    assert batched.sram["optimizer"] > report.sram["optimizer"]


def test_the_report_says_what_the_json_promises(small_model: Path, small_data: Path) -> None:
    document = fitted(small_model, small_data, seeds=(7, 2), eval_every=2, eval_count=9, augment="flip").as_dict()
    assert {"mean", "std", "runs"} == set(document["accuracy"]) and len(document["accuracy"]["runs"]) == 2
    assert document["accuracy"]["mean"] == pytest.approx(np.mean(document["accuracy"]["runs"]))
    assert document["accuracy"]["std"] == pytest.approx(np.std(document["accuracy"]["runs"], ddof=1))
    assert document["evaluated"] == 9 and document["settings"]["seeds"] == [7, 2]
    assert [run["seed"] for run in document["runs"]] == [7, 2]
    assert len(document["loss"]) == 2 and document["loss"][1] < document["loss"][0]
    assert [epoch["accuracy"] is None for epoch in document["runs"][0]["epochs"]] == [True, False]
    assert 0 <= document["head_start"] <= 1 and document["steps_per_second"] > 0
    assert document["sram"]["total"] == sum(value for key, value in document["sram"].items() if key != "total")
    assert 0 < document["cache"]["rows"] < document["cache"]["of_rows"]
    assert document["settings"]["augment"] == {"flip": True, "shift": 0, "crop": 1.0, "gain": 0.0}
    assert document["float"] is None and document["difference"] is None


def test_what_makes_no_sense_is_refused(small_model: Path, small_data: Path) -> None:
    for options, message in (
        ({"seeds": 0}, "needs a seed"), ({"eval_every": 0}, "evaluation every 0"), ({"lr": -1.0}, "learning rate"),
        ({"epochs": 0}, "epochs is 0"), ({"batch": 0}, "batch is 0"), ({"eval_count": -1}, "-1 test samples"),
        ({"augment": "flop"}, "'flop' is no augmentation"), ({"schedule": "linear"}, "schedule"),
        ({"classes": 2}, "2 classes"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            fitted(small_model, small_data, **{"head_start": False, **options})


def test_an_auto_encoder_has_a_loss_and_no_accuracy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    file = OnnxFile((1, 12))
    x = file.qdq("input", 0.05, 0)
    for name, shape in (("down", (5, 12)), ("up", (12, 5))):
        weight = file.weight(rng.integers(-127, 128, shape).astype(np.int8), np.full(shape[0], 0.003, np.float32), 0)
        bias = file.weight(np.zeros(shape[0], np.int32), np.full(shape[0], 0.05 * 0.003, np.float32), 0)
        x = file.qdq(file.node("Gemm", [x, weight, bias], name, transB=1), 0.05, 0)
    model.write_bytes(file.content(x))
    samples = rng.integers(-60, 60, (40, 1)).astype(np.int8) + rng.integers(-9, 9, (40, 12)).astype(np.int8)
    np.savez(data, x_train=samples, x_test=samples)
    report = api.fit(
        model, data, scheme="all", epochs=3, lr=0.02, overrides={"loss": {"kind": "mean_squared_error"}}, seeds=2
    )
    assert report.accuracy is None and report.evaluated == 0 and report.head_start is None
    losses = report.as_dict()["loss"]
    assert losses[-1] < 0.7 * losses[0]
    with pytest.raises(DataError, match="given targets"):
        api.fit(model, data, overrides={"loss": {"kind": "mean_squared_error", "target": "given"}})


def test_progress_says_where_a_training_is(task: Task) -> None:
    seen: list[FitProgress] = []
    run = Run(task, 4, PrefixCache(task.prefix, CACHE)).finish(seen.append)
    assert {moment.seed for moment in seen} == {4} and {moment.epochs for moment in seen} == {3}
    assert [moment.epoch for moment in seen] == sorted(moment.epoch for moment in seen)
    assert seen[0].stage == "evaluate" and seen[0].epoch == 0 and seen[0].accuracy is None
    ends = [moment for moment in seen if moment.stage == "train" and moment.done % 48 == 0 and moment.accuracy]
    assert [moment.accuracy for moment in ends][-1] == run.accuracy
    last = seen[-1]
    assert (last.stage, last.epoch, last.done, last.total) == ("train", 3, 144, 144)
    assert (last.loss, last.train_accuracy) == (run.epochs[-1].loss, run.epochs[-1].train_accuracy)
