# SPDX-License-Identifier: Apache-2.0
"""Exporting a plan: a whole folder or none, never over another one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.exported import WARNINGS, compile_c
from tinytrain.errors import OutputError
from tinytrain.exporters.c import LIBRARY_FILES, model_source
from tinytrain.planner import Plan, export_plan

EXPORT = "tinytrain.planner.export"


def test_an_export_holds_everything_to_build_run_and_export_again(plan: Plan, tmp_path: Path) -> None:
    folder = export_plan(plan, tmp_path / "firmware")
    for name in (
        "tinytrain_model.h",
        "tinytrain_model.c",
        "Makefile",
        "README.md",
        "plan.json",
        "export.json",
        "board/board.ld",
    ):
        assert (folder / name).is_file(), name
    assert (folder / "model" / plan.model.name).read_bytes() == plan.model.read_bytes()
    again = Plan.load(folder / "plan.json")
    assert again.model.parent == folder / "model"
    assert model_source(again.program()) == (folder / "tinytrain_model.c").read_text()
    export_plan(again, tmp_path / "again")
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes(), path.name


def test_an_export_may_be_moved(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export_plan(plan, tmp_path / "firmware").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    again = Plan.load(folder / "plan.json")
    assert again.model == folder / "model" / plan.model.name
    assert again.scheme == plan.scheme and again.exponents == plan.exponents


def test_export_json_states_the_facts(plan: Plan, tmp_path: Path) -> None:
    folder = export_plan(plan, tmp_path / "firmware")
    facts = json.loads((folder / "export.json").read_text())
    program = plan.program()
    assert facts["classes"] == 4 and facts["board"] == "mps2-an386"
    assert facts["input"]["shape"] == [16, 16, 3] and facts["input"]["layout"] == "HWC"
    assert facts["kernels"] == program.kernels
    assert [row["node"] for row in facts["rows"]] == [row.node for row in program.rows]
    assert {row["phase"] for row in facts["rows"]} == {"forward", "save", "loss", "backward", "update", "apply"}
    assert facts["sram"] == plan.sram.as_dict()
    table = re.search(
        r"const tt_program tinytrain_program = \{rows, (\d+)\};", (folder / "tinytrain_model.c").read_text()
    )
    assert table and int(table[1]) == len(facts["rows"])


def test_the_readme_holds_the_ledger(plan: Plan, tmp_path: Path) -> None:
    text = (export_plan(plan, tmp_path / "firmware") / "README.md").read_text()
    assert "$" not in text, "a placeholder is left"
    for value in (plan.sram.total, plan.sram.arena, plan.sram.parameters, plan.flash.constants):
        assert f"{value:,}" in text
    for name in LIBRARY_FILES:
        assert f"`{name}`" in text


@pytest.mark.boards
def test_the_library_files_are_enough_for_a_project_of_ones_own(plan: Plan, tmp_path: Path) -> None:
    """What the README says to take over compiles and links without board/ and Makefile."""
    folder = export_plan(plan, tmp_path / "firmware")
    own = tmp_path / "own"
    own.mkdir()
    for name in LIBRARY_FILES:
        (folder / name.rstrip("/")).rename(own / name.rstrip("/"))
    (own / "main.c").write_text('#include "tinytrain_model.h"\nint main(void) { return tinytrain_init(); }\n')
    sources = [str(path) for path in own.rglob("*.c")]
    flags = [*plan.board.cflags, "-O2", "--specs=nosys.specs", *WARNINGS]
    assert compile_c(own, sources, "app", *flags, cc="arm-none-eabi-gcc").is_file()


@pytest.mark.parametrize("kind", ["folder", "file", "full folder"])
def test_an_existing_target_is_refused_and_left_as_it_is(plan: Plan, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "firmware"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        if kind == "full folder":
            (target / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="exists already") as caught:
        export_plan(plan, target)
    assert "-o" in caught.value.fix
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("where", ["write_firmware", "render", "shutil.copyfile", "_facts", "_readme"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError, MemoryError])
def test_an_interrupted_export_leaves_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, interruption: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(f"{EXPORT}.{where}", interrupt)
    with pytest.raises((interruption, OutputError)):
        export_plan(plan, tmp_path / "deep" / "firmware")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "deep" / "firmware").exists()


def test_a_folder_that_cannot_be_made_is_reported(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError):
        export_plan(plan, tmp_path / "file" / "firmware")
