# SPDX-License-Identifier: Apache-2.0
"""A run from the firmware folder to the report: the board learns, the host repeats it bit for bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tests.small import write_data
from tinytrain.data import InputSpec, load_data
from tinytrain.emulate import BoardReport, Marks, Pass, Window, sections
from tinytrain.errors import DataError, EmulationError, ToolMissing
from tinytrain.planner import Plan
from tinytrain.session import Replay, RunProgress, prepare, replay, session, training_steps

pytestmark = pytest.mark.boards


def test_a_board_learns_and_the_host_agrees_in_every_bit(small_firmware: Path, small_data: Path) -> None:
    seen: list[RunProgress] = []
    report = tinytrain.run(small_firmware, small_data, epochs=4, lr=0.05, flip=True, seed=3, progress=seen.append)
    assert (report.board, report.steps, report.evaluated) == ("nrf52840", 192, 21)
    assert report.accuracy_after is not None and report.accuracy_before is not None
    assert report.accuracy_after > 0.8 > report.accuracy_before
    assert report.loss_last < report.loss_first / 2
    assert report.identical and report.parameters_crc32 == report.host_parameters_crc32
    assert len({epoch.parameters_crc32 for epoch in report.epochs}) == 4
    assert report.epochs[-1].parameters_crc32 == report.parameters_crc32

    plan = Plan.load(small_firmware / "plan.json")
    assert report.linked == report.planned == plan.sram.total
    assert report.linked == sections(small_firmware / "build" / "firmware.elf").sram
    assert report.arena_used <= plan.sram.arena and report.stack_used + report.handler_stack_used <= plan.sram.stack
    assert report.instructions is not None
    assert report.instructions.inference < report.instructions.train_step
    assert set(report.instructions.phases) >= {"forward", "loss", "backward", "update"}

    stages = [moment.stage for moment in seen]
    assert set(stages) == {"build", "evaluate", "train", "count", "replay"}
    training = [moment for moment in seen if moment.stage == "train"]
    assert (
        all(m.loss is not None and m.accuracy is not None for m in training) and training[-1].done == training[-1].total
    )


def test_the_json_has_every_promised_name(small_firmware: Path, small_data: Path) -> None:
    report = tinytrain.run(small_firmware, small_data, steps=4, eval_count=2)
    document = json.loads(json.dumps(report.as_dict()))
    assert {"board", "steps", "accuracy", "loss", "instructions", "sram", "parameters_crc32"} <= set(document)
    assert set(document["accuracy"]) == {"before", "after"} and set(document["loss"]) == {"first", "last"}
    assert {"inference", "train_step", "phases"} <= set(document["instructions"])
    assert {"linked", "arena_used", "stack_used"} <= set(document["sram"])
    assert document["host_parameters_crc32"] == document["parameters_crc32"] and document["identical"] is True


def test_parts_of_a_run_may_be_left_out(small_firmware: Path, small_data: Path) -> None:
    report = tinytrain.run(small_firmware, small_data, steps=3, eval_count=0, host=False, count=False)
    document = report.as_dict()
    assert document["accuracy"] == {"before": None, "after": None}
    assert document["instructions"] == {"inference": None, "train_step": None, "apply": None, "phases": {}}
    assert document["host_parameters_crc32"] is None and document["identical"] is None


def test_batches_train_where_the_plan_accumulates(batching_firmware: Path, small_data: Path) -> None:
    report = tinytrain.run(batching_firmware, small_data, epochs=3, batch=5, lr=0.2, eval_count=6, count=False)
    assert report.identical and report.batch == 5
    assert report.loss_last < report.loss_first


def test_batches_are_refused_where_it_does_not(small_firmware: Path, small_data: Path) -> None:
    with pytest.raises(DataError, match="cannot train in batches of 4") as error:
        tinytrain.run(small_firmware, small_data, steps=4, batch=4)
    assert "--accumulate" in error.value.fix


def test_data_for_another_model_is_refused_before_anything_is_built(
    small_firmware: Path, small_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "firmware"
    shutil.copytree(small_firmware, folder, ignore=shutil.ignore_patterns("build"))
    with pytest.raises(DataError, match="samples are 12x12x3, the model takes 16x16x3"):
        tinytrain.run(folder, write_data(tmp_path / "other.npz", size=12))
    data = load_data(small_data, InputSpec((16, 16, 3), 1.0, 0))
    labels = np.where(np.arange(len(data.y_train)) == 7, 5, data.y_train)
    with pytest.raises(DataError, match="label 5 of sample 7 is outside the 3 classes"):
        tinytrain.run(folder, replace(data, y_train=labels))
    assert not (folder / "build").exists()


def test_what_is_not_a_firmware_folder_is_refused(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="is not an exported firmware folder"):
        tinytrain.run(tmp_path / "none", small_data)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(EmulationError, match="is not an exported firmware folder"):
        tinytrain.run(tmp_path, small_data)


def test_a_host_that_fails_ends_the_board_at_once(
    small_firmware: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **options: object) -> Replay:
        raise ToolMissing("no C compiler on this machine")

    monkeypatch.setattr(session, "replay", failing)
    seen: list[RunProgress] = []
    with pytest.raises(ToolMissing, match="no C compiler"):
        tinytrain.run(small_firmware, small_data, epochs=50, progress=seen.append)
    assert seen[-1].done < seen[-1].total or seen[-1].stage == "build"


def repeated(folder: Path, data_path: Path) -> Replay:
    plan = Plan.load(folder / "plan.json")
    spec = InputSpec.from_dict(plan.input())
    data = load_data(data_path, spec)
    steps = training_steps(data.y_train, steps=10)
    made = prepare(data, spec, steps, eval_count=5, seed=0, accumulates=False)
    return replay(plan.program(), made.stream, made.samples, progress_every=4)


def board_like(mine: Replay) -> BoardReport:
    marks = tuple(Marks(crc, 0, 0, 0) for crc in mine.crcs)
    return BoardReport(
        "b", tuple(Pass(p.kind, list(p.windows)) for p in mine.passes), marks, tuple(mine.logits), None, 0.0
    )


def test_the_first_difference_is_named(small_firmware: Path, small_data: Path) -> None:
    mine = repeated(small_firmware, small_data)
    assert [[w.samples for w in p.windows] for p in mine.passes] == [[4, 1], [4, 4, 2], [4, 1]]
    assert len(mine.crcs) == 2 and len(mine.logits) == 4
    board = board_like(mine)
    assert mine.difference(board) is None

    window = board.passes[1].windows[2]
    board.passes[1].windows[2] = Window(window.samples, window.correct, window.loss + 2**-16)
    assert (mine.difference(board) or "").startswith("pass 1 (train), samples 8 to 10: host loss")
    other = replace(board_like(mine), marks=(board.marks[0], Marks(7, 0, 0, 0)))
    assert "parameters at report 1: host CRC" in (mine.difference(other) or "")
    other = replace(board_like(mine), logits=(mine.logits[0] + 1, *mine.logits[1:]))
    assert "logits of test sample 0" in (mine.difference(other) or "")
