# SPDX-License-Identifier: Apache-2.0
"""A profile says where every instruction of a step went, by kernel and by layer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import tinytrain
from tinytrain.boards import load
from tinytrain.cli.profile import show_profile
from tinytrain.emulate import Instructions, KernelCode, RowCount, build, kernel_code
from tinytrain.errors import DataError, EmulationError
from tinytrain.planner import Plan
from tinytrain.session import Profile, ProfiledRow, RunReport
from tinytrain.session.profile import STEP, profile_of


@pytest.fixture(scope="module")
def report(small_firmware: Path, small_data: Path) -> RunReport:
    return tinytrain.run(small_firmware, small_data, steps=2, eval_count=0, host=False, profile=True)


def made(*rows: tuple[str, str, str, int, int]) -> Profile:
    """Of (label, layer, phase, macs, instructions)."""
    profiled = tuple(
        ProfiledRow(label.split()[0], label, f"{layer}.{phase}", layer, phase, macs, instructions)
        for label, layer, phase, macs, instructions in rows
    )
    total = sum(row.instructions for row in profiled)
    return Profile("a-board", "cortex-m4", 100, total + 9, profiled, {"tt_a": KernelCode("dsp", 400)}, None)


ROWS = (
    ("tt_a 1x1", "one", "forward", 100, 300), ("tt_a 3x3", "two", "forward", 50, 100),
    ("tt_b", "two", "save", 0, 50), ("tt_a 1x1", "two", "forward", 100, 100), ("tt_c", "one", "update", 10, 450),
)  # fmt: skip


def test_rows_are_summed_by_kernel_with_the_most_expensive_first() -> None:
    kernels = made(*ROWS).kernels
    found = [(each.name, each.calls, each.instructions, each.macs, each.per_mac, each.share) for each in kernels]
    assert found == [
        ("tt_c", 1, 450, 10, 45.0, 0.45), ("tt_a 1x1", 2, 400, 200, 2.0, 0.4), ("tt_a 3x3", 1, 100, 50, 2.0, 0.1),
        ("tt_b", 1, 50, 0, None, 0.05),
    ]  # fmt: skip


def test_rows_are_summed_by_layer_in_order_of_execution() -> None:
    one, two = made(*ROWS).layers
    assert (one.name, one.phases) == ("one", {"forward": 300, "update": 450})
    assert (two.name, two.phases) == ("two", {"forward": 200, "save": 50})


def shown(profile: Profile, width: int = 110) -> list[str]:
    out = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_profile(out, profile)
    return out.export_text().splitlines()


def test_bars_of_parts_stand_under_the_bar_of_the_whole() -> None:
    lines = shown(made(*ROWS))

    def bar(name: str) -> tuple[int, int]:
        line = next(
            line for line in lines if line.strip().startswith(name) and set(line) & set("█▓▒░") and "," not in name
        )
        cells = [i for i, letter in enumerate(line) if letter in "█▓▒░"]
        return cells[0], cells[-1]

    whole, forward, save, update = bar("training step"), bar("forward"), bar("save"), bar("update")
    assert whole[0] == forward[0] and update[1] == whole[1]
    assert forward[1] < save[0] <= save[1] < update[0]
    first, second = bar("tt_a 1x1"), bar("tt_a 3x3")
    assert forward[0] == first[0] <= first[1] < second[0] <= second[1] == forward[1]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_of_bars_is_wider_than_the_screen(width: int) -> None:
    assert all(len(line.rstrip()) <= width for line in shown(made(*ROWS), width) if set(line) & set("█▓▒░"))


@pytest.mark.boards
def test_a_run_counts_every_row_of_its_step(report: RunReport, small_firmware: Path) -> None:
    profile, counted = report.profile, report.instructions
    assert profile is not None and counted is not None
    assert (profile.inference, profile.train_step) == (counted.inference, counted.train_step)
    program = Plan.load(small_firmware / "plan.json").program()
    rows = [row for row in program.rows if row.phase.name.lower() in STEP]
    assert [(row.label, row.node, row.macs) for row in profile.rows] == [(r.label, r.node, r.macs) for r in rows]
    assert sum(entry.share for entry in profile.kernels) == pytest.approx(1)
    assert sum(entry.instructions for entry in profile.layers) == sum(row.instructions for row in profile.rows)
    assert {"layer0", "layer1", "layer2", "head"} <= {entry.name for entry in profile.layers}
    for phase, instructions in counted.phases.items():
        assert sum(row.instructions for row in profile.rows if row.phase == phase) == instructions


@pytest.mark.boards
def test_the_code_of_a_profile_is_that_of_the_linked_kernels(report: RunReport, small_firmware: Path) -> None:
    assert report.profile is not None
    program = Plan.load(small_firmware / "plan.json").program()
    code = report.profile.code
    assert sorted(code) == program.kernels
    text = sum(path.stat().st_size for path in (small_firmware / "build").rglob("kernels/*/*.o"))
    assert all(each.size > 0 for each in code.values()) and report.profile.code_size < text
    assert {each.variant for each in code.values()} <= set(load("nrf52840").variants)


@pytest.mark.boards
def test_the_json_has_the_documented_names(report: RunReport) -> None:
    document = json.loads(json.dumps(report.as_dict()))["profile"]
    assert set(document) == {"inference", "train_step", "kernels", "layers", "code", "latency"}
    names = {"name", "calls", "instructions", "macs", "instructions_per_mac", "share", "phases"}
    assert all(set(entry) == names for entry in (*document["kernels"], *document["layers"]))
    assert document["code"]["total"] == sum(each["bytes"] for each in document["code"]["kernels"].values())
    assert document["latency"]["estimate"] is True and document["latency"]["core_hz"] == 64_000_000


@pytest.mark.boards
def test_without_being_asked_a_run_has_no_profile(small_firmware: Path, small_data: Path) -> None:
    report = tinytrain.run(small_firmware, small_data, steps=2, eval_count=0, host=False)
    assert report.profile is None and report.as_dict()["profile"] is None


def test_a_profile_needs_counts(small_firmware: Path, small_data: Path) -> None:
    with pytest.raises(DataError, match="needs counted instructions"):
        tinytrain.run(small_firmware, small_data, steps=2, count=False, profile=True)


@pytest.mark.boards
def test_counts_of_another_firmware_are_refused(small_firmware: Path) -> None:
    counted = Instructions(1, 2, 0, (RowCount(0, "forward", 5),))
    with pytest.raises(EmulationError, match=r"has 1 rows, its export\.json"):
        profile_of(small_firmware, counted)


@pytest.mark.boards
def test_folders_from_before_rows_had_labels_are_profiled_by_kernel(small_firmware: Path, tmp_path: Path) -> None:
    folder = tmp_path / "firmware"
    build(small_firmware)
    shutil.copytree(small_firmware, folder)
    facts = json.loads((folder / "export.json").read_text())
    for row in facts["rows"]:
        del row["label"]
    (folder / "export.json").write_text(json.dumps(facts))
    counted = Instructions(1, 2, 0, tuple(RowCount(i, "forward", 1) for i in range(len(facts["rows"]))))
    assert {entry.name for entry in profile_of(folder, counted).kernels} <= set(facts["kernels"])


# --- the linker's map ---

MAP = """
Discarded input sections

 .text.unused   0x00000000       0x99 build/tinytrain/src/kernels/dsp/tt_add_s8.o

Linker script and memory map

 .text.tt_add_s8
                0x00000d2c      0x11c build/tinytrain/src/kernels/dsp/tt_add_s8.o
                0x00000d2c                tt_add_s8
 .text.helper   0x00002c20       0x28 build/tinytrain/src/kernels/dsp/tt_add_s8.o
 .text.tt_run   0x00002c48       0x40 build/tinytrain/src/executor.o
 .text.tt_mean_s8
                0x00002d60      0x200 build/tinytrain/src/kernels/ref/tt_mean_s8.o
 .rodata.table  0x00004000      0x800 build/tinytrain/src/kernels/ref/tt_mean_s8.o
"""


def test_kernel_code_is_what_the_linker_kept(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "firmware.map").write_text(MAP)
    assert kernel_code(tmp_path) == {
        "tt_add_s8": KernelCode("dsp", 0x11C + 0x28), "tt_mean_s8": KernelCode("ref", 0x200),
    }  # fmt: skip


def test_a_folder_that_was_not_built_has_no_kernel_code(tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="has no map"):
        kernel_code(tmp_path)
