# SPDX-License-Identifier: Apache-2.0
"""Boards are folders: what they say, how they are narrowed, and how a wrong one is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tinytrain import boards
from tinytrain.boards import Board, all_boards, load, parse_size
from tinytrain.errors import BoardError

PARTS = {  # name: core, MHz, SRAM KB, flash KB
    "stm32f746": ("cortex-m7", 216, 320, 1024),
    "stm32h743": ("cortex-m7", 480, 512, 2048),
    "nrf52840": ("cortex-m4", 64, 256, 1024),
    "rp2040": ("cortex-m0plus", 133, 264, 2048),
}
MACHINES = {
    "mps2-an385": "cortex-m3",
    "mps2-an386": "cortex-m4",
    "mps2-an500": "cortex-m7",
    "mps2-an505": "cortex-m33",
    "mps3-an547": "cortex-m55",
}


@pytest.mark.parametrize("name", PARTS)
def test_real_parts_have_their_true_clocks_and_memories(name: str) -> None:
    core, mhz, sram, flash = PARTS[name]
    board = load(name)
    assert (board.core, board.core_hz) == (core, mhz * 1_000_000)
    assert (board.sram.size, board.flash.size) == (sram * 1024, flash * 1024)


VARIANTS = {
    "cortex-m0plus": ("portable", "ref"),
    "cortex-m3": ("portable", "ref"),
    "cortex-m4": ("dsp", "portable", "ref"),
    "cortex-m7": ("dsp", "portable", "ref"),
    "cortex-m33": ("dsp", "portable", "ref"),
    "cortex-m55": ("mve", "dsp", "portable", "ref"),
}


def test_every_core_takes_the_kernels_that_it_can_execute() -> None:
    for board in all_boards():
        assert board.variants == VARIANTS[board.core], board.name


def test_a_core_nobody_knows_takes_what_any_core_can_execute() -> None:
    assert replace(load("nrf52840"), core="cortex-m85").variants == ("portable", "ref")


def test_plans_from_before_boards_had_clocks_are_read() -> None:
    fields = load("nrf52840").as_dict()
    del fields["core_hz"]
    assert Board.from_dict(fields).core_hz is None


@pytest.mark.parametrize("name", MACHINES)
def test_every_emulated_core_has_a_board(name: str) -> None:
    assert load(name).core == MACHINES[name]
    assert load(name).machine == name


def test_all_boards_are_the_folders_that_hold_a_board_toml() -> None:
    found = [board.name for board in all_boards()]
    assert found == sorted(found) and {*PARTS, *MACHINES} <= set(found)
    for board in all_boards():
        assert f"-mcpu={board.core}" in board.cflags


def test_adding_a_board_is_adding_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    text = (boards.ROOT / "nrf52840" / "board.toml").read_text().replace('"256K"', '"64K"')
    (tmp_path / "mine" / "board.toml").write_text(text)
    monkeypatch.setattr(boards, "ROOT", tmp_path)
    assert [board.name for board in all_boards()] == ["mine"]
    assert load("mine").sram.size == 65536


def test_unknown_board_names_the_known_and_the_nearest() -> None:
    with pytest.raises(BoardError, match="did you mean 'stm32f746'") as error:
        load("stm32f764")
    assert all(name in str(error.value) for name in (*PARTS, *MACHINES))
    with pytest.raises(BoardError, match="unknown board 'zzz'"):
        load("zzz")
    with pytest.raises(BoardError):
        load("../boards/rp2040")


@pytest.mark.parametrize("missing", ["core", "core_hz", "machine", "size", "mpu"])
def test_incomplete_board_is_refused_by_its_missing_key(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (boards.ROOT / "nrf52840" / "board.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(f"{missing} ")]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "board.toml").write_text("\n".join(kept))
    monkeypatch.setattr(boards, "ROOT", tmp_path)
    with pytest.raises(BoardError, match=missing):
        load("mine")


def test_narrowing_keeps_the_origin_and_changes_the_sizes() -> None:
    board = load("stm32f746")
    narrow = board.narrowed(sram=256 * 1024, flash=512 * 1024)
    assert (narrow.sram.size, narrow.flash.size) == (262144, 524288)
    assert (narrow.sram.origin, narrow.flash.origin) == (board.sram.origin, board.flash.origin)
    assert board.narrowed() == board


@pytest.mark.parametrize("sizes", [{"sram": 320 * 1024 + 32}, {"flash": 2**20 + 32}, {"sram": 0}, {"sram": 100_001}])
def test_narrowing_refuses_more_than_the_part_has_and_what_cannot_be_enforced(sizes: dict[str, int]) -> None:
    with pytest.raises(BoardError, match=r"SRAM|flash"):
        load("stm32f746").narrowed(**sizes)


def test_a_board_survives_json() -> None:
    for board in all_boards():
        assert Board.from_dict(json.loads(json.dumps(board.as_dict()))) == board


@pytest.mark.parametrize(
    ("text", "size"),
    [("256K", 262144), ("1M", 2**20), ("320 KB", 327680), ("64KiB", 65536), ("200000", 200000), ("4G", 2**32), (7, 7)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1.5M", "-1", "12T", "1 2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(BoardError, match="not a memory size"):
        parse_size(text)
