# SPDX-License-Identifier: Apache-2.0
"""plan.json holds everything: the program made from it is the same to the byte, or it is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board
from tinytrain.errors import ModelError, OutputError, SchemeError, TinytrainError
from tinytrain.exporters.c import model_header, model_source
from tinytrain.planner import Plan, make_plan
from tinytrain.planner.make import Samples
from tinytrain.program import Program
from tinytrain.train import LayerUpdate, Scheme, Slice


def assert_same_program(a: Program, b: Program) -> None:
    assert model_source(a) == model_source(b)
    assert model_header(a, "t") == model_header(b, "t")
    assert a.sizes == b.sizes
    for space, image in a.images.items():
        np.testing.assert_array_equal(image, b.images[space])


def test_a_plan_and_its_file_give_the_same_program(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert_same_program(plan.program(), again.program())
    assert again.as_dict() == plan.as_dict()
    assert (again.board, again.scheme, again.exponents) == (plan.board, plan.scheme, plan.exponents)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


@pytest.mark.usefixtures("unlinked")
@pytest.mark.parametrize("update", ["master", "stochastic"])
def test_every_part_of_a_scheme_survives_the_file(
    model: Path, samples: Samples, board: Board, tmp_path: Path, update: str
) -> None:
    layers = {
        "layer2": LayerUpdate(True, Slice("input", (1, 5, 6))),
        "layer1": LayerUpdate(False, Slice("output", (0, 2))),
    }
    scheme = Scheme(layers, scaling="none")
    made = make_plan(model, board, samples=samples, scheme=scheme, classes=5, update=update, accumulate=True)
    assert made.scheme == Scheme(layers, 5, update, True, "none")
    made.save(tmp_path / "plan.json")
    assert_same_program(made.program(), Plan.load(tmp_path / "plan.json").program())


def test_the_json_has_the_documented_names(plan: Plan) -> None:
    document = plan.as_dict()
    assert {"model", "board", "scheme", "sram", "flash", "macs", "instructions"} <= set(document)
    assert set(document["sram"]) == {
        "budget", "total", "arena", "arena_lower_bound", "parameters", "masters", "optimizer", "statics", "stack",
    }  # fmt: skip
    assert set(document["flash"]) == {"budget", "total", "code", "constants", "store"}
    assert set(document["macs"]) == {"forward", "backward"}
    assert set(document["instructions"]) == {"inference", "train_step"}
    sram, flash = document["sram"], document["flash"]
    assert sram["total"] == sum(
        sram[key] for key in ("arena", "parameters", "masters", "optimizer", "statics", "stack")
    )
    assert sram["total"] <= sram["budget"]
    if flash["code"] is not None:  # else there is no cross compiler here
        assert flash["total"] == sum(flash[key] for key in ("code", "constants", "store")) <= flash["budget"]
    json.dumps(document)


def saved(plan: Plan, folder: Path) -> tuple[Path, Path]:
    """(plan file, copy of the model beside it that the plan names)"""
    own = shutil.copy(plan.model, folder / "model.onnx")
    plan.but(model=Path(own)).save(folder / "plan.json")
    return folder / "plan.json", Path(own)


def test_a_model_that_changed_on_disk_is_refused(plan: Plan, tmp_path: Path) -> None:
    path, own = saved(plan, tmp_path)
    own.write_bytes(own.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="is not the file the plan was made for") as caught:
        Plan.load(path)
    assert str(path) in caught.value.where


def test_a_model_that_is_gone_is_refused(plan: Plan, tmp_path: Path) -> None:
    path, own = saved(plan, tmp_path)
    own.unlink()
    with pytest.raises(ModelError, match="is not there"):
        Plan.load(path)


def test_a_model_is_found_beside_its_plan(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may be moved as a whole."""
    path, _ = saved(plan, tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "model": "model.onnx"}))
    monkeypatch.chdir("/")
    assert Plan.load(path).model == tmp_path / "model.onnx"


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"model": 1}', '"text"', "\x00"])
def test_a_file_that_is_no_plan_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(TinytrainError, match=r"plan\.json"):
        Plan.load(path)


@pytest.mark.parametrize("key", ["model", "model_sha256", "board_limits", "scheme", "sram", "flash", "exponents"])
@pytest.mark.parametrize("value", [None, 5, "text", [], {}])
def test_a_plan_with_a_spoilt_part_is_refused(plan: Plan, tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "plan.json"
    plan.save(path)
    document = json.loads(path.read_text())
    document[key] = value
    path.write_text(json.dumps(document))
    if (key, value) in (("exponents", {}), ("scheme", {})):
        Plan.load(path)  # these are plans, of a lesser kind
        return
    with pytest.raises(TinytrainError):
        Plan.load(path)


def test_a_missing_plan_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match="no plan file") as caught:
        Plan.load(tmp_path / "plan.json")
    assert "tinytrain plan" in caught.value.fix


def test_a_plan_that_cannot_be_written_is_reported_and_leaves_the_old_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")

    def full(self: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="cannot write"):
        plan.save(path)
    monkeypatch.undo()
    assert path.read_text() == "old"
    with pytest.raises(OutputError, match="cannot write"):
        plan.save(tmp_path / "nowhere" / "plan.json")


def test_exponents_are_measured_on_the_host_before_the_first_step(plan: Plan) -> None:
    """Every gradient with an exponent of its own starts where training would have put it, and not at the default."""
    states = {name for name, t in plan.graph.tensors.items() if t.exponent and t.exponent.state == f"{name}.exponent"}
    assert set(plan.exponents) == states and states
    for name, (exponent, mantissa, power) in plan.exponents.items():
        assert 2**30 <= mantissa < 2**31 and -96 <= exponent <= 96
        assert plan.graph[f"{name}.exponent"].data.tolist() == [exponent, mantissa, power]
        # the peak of the last of those steps may be new; the exponent was chosen before it
        assert abs(power + 17 - exponent) <= 12


def test_a_changed_board_is_another_plan(plan: Plan, board: Board) -> None:
    assert replace(plan, board=board).as_dict() != plan.as_dict()
