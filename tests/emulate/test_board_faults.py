# SPDX-License-Identifier: Apache-2.0
"""A firmware that leaves its limits is stopped and named; the emulator never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board, load
from tinytrain.emulate import CommandStream, build, count_instructions, run
from tinytrain.errors import BudgetError, EmulationError, FirmwareFault, ToolMissing

pytestmark = pytest.mark.boards
Firmware = Callable[..., Path]

ONE_STEP = CommandStream().train(0, 1)
CORES = ["mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547", "rp2040"]


def narrow(name: str, sram: int = 200_000) -> Board:
    return load(name).narrowed(sram=sram, flash=64 * 1024)


@pytest.mark.parametrize("access", ["FAKE_READ", "FAKE_WRITE"])
@pytest.mark.parametrize("name", CORES)
def test_one_byte_past_sram_faults_with_its_address(
    name: str, access: str, firmware: Firmware, samples: np.ndarray
) -> None:
    board = narrow(name)
    with pytest.raises(FirmwareFault) as error:
        run(firmware(board, **{access: hex(board.sram.end)}), ONE_STEP, samples)
    assert f"touched {board.sram.end:#010x}: 1 byte past the end of its SRAM" in error.value.what
    assert "fake_update" in error.value.where


@pytest.mark.parametrize("name", CORES)
def test_the_last_byte_of_sram_can_be_used(name: str, firmware: Firmware, samples: np.ndarray) -> None:
    board = narrow(name)
    last = hex(board.sram.end - 1)
    assert run(firmware(board, FAKE_READ=last, FAKE_WRITE=last), ONE_STEP, samples).passes[0].samples == 1


@pytest.mark.parametrize("name", ["stm32f746", "mps2-an505"])
def test_flash_cannot_be_written_nor_read_past_its_end(name: str, firmware: Firmware, samples: np.ndarray) -> None:
    board = narrow(name)
    folder = firmware(board, FAKE_READ=hex(board.flash.end))
    with pytest.raises(FirmwareFault, match=f"touched {board.flash.end:#010x}: 1 byte past the end of its flash"):
        run(folder, ONE_STEP, samples)
    folder.rename(folder.with_name("first"))
    with pytest.raises(FirmwareFault, match="inside its flash") as error:
        run(firmware(board, FAKE_WRITE=hex(board.flash.end - 1)), ONE_STEP, samples)
    assert "it wrote to flash" in error.value.why


@pytest.mark.parametrize("name", CORES)
def test_stack_overflow_is_named(name: str, firmware: Firmware, samples: np.ndarray) -> None:
    with pytest.raises(FirmwareFault, match="overflowed its main stack"):
        run(firmware(narrow(name), FAKE_RECURSE="1"), ONE_STEP, samples)


def test_m0_code_may_not_access_unaligned_words(firmware: Firmware, samples: np.ndarray) -> None:
    with pytest.raises(FirmwareFault, match="usage fault") as error:
        run(firmware(load("rp2040"), FAKE_UNALIGNED="1"), ONE_STEP, samples)
    assert "unaligned" in error.value.why
    run(firmware(load("mps2-an385"), FAKE_UNALIGNED="1"), ONE_STEP, samples)


def test_an_input_outside_sram_is_refused_before_semihosting_writes_there(
    firmware: Firmware, samples: np.ndarray
) -> None:
    board = narrow("mps2-an385")
    with pytest.raises(EmulationError, match="lies outside SRAM"):
        run(firmware(board, FAKE_INPUT=hex(board.sram.end - 63)), ONE_STEP, samples)


def test_what_does_not_fit_does_not_link(firmware: Firmware) -> None:
    with pytest.raises(BudgetError, match=r"SRAM by \d+ B") as error:
        build(firmware(load("mps2-an385").narrowed(sram=1024), stack=1024))
    assert "flash" not in error.value.what
    with pytest.raises(BudgetError, match=r"flash by [\d,]+ B"):
        build(firmware(load("mps2-an386").narrowed(flash=1024)))


def test_a_compiler_error_is_shown(firmware: Firmware) -> None:
    with pytest.raises(EmulationError, match="does not build") as error:
        build(firmware(load("mps2-an385"), FAKE_READ="nonsense"))
    assert "nonsense" in error.value.why


def test_a_firmware_that_hangs_is_ended(firmware: Firmware, samples: np.ndarray) -> None:
    folder = firmware(load("mps2-an385"), FAKE_HANG="1")
    with pytest.raises(EmulationError, match="said nothing for 1 seconds"):
        run(folder, ONE_STEP, samples, quiet_limit=1)
    assert emulators_of(folder) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_no_emulator_outlives_us(
    number: int, code: int, firmware: Firmware, samples: np.ndarray, tmp_path: Path
) -> None:
    folder = firmware(load("mps2-an385"), FAKE_HANG="1")
    build(folder)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    script = (
        "import sys, numpy, pathlib\n"
        "from tinytrain.emulate import CommandStream, run\n"
        "run(pathlib.Path(sys.argv[1]), CommandStream().train(0, 1), numpy.zeros((1, 64), numpy.int8))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE
    )
    wait_for(lambda: len(emulators_of(folder)) == 1)
    child.send_signal(number)
    _, errors = child.communicate(timeout=10)
    assert child.returncode in (code, -number)
    wait_for(lambda: emulators_of(folder) == [])
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in errors
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "package"),
    [("make", "make"), ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("qemu-system-arm", "qemu-system-arm")],
)
def test_a_missing_tool_names_its_package(
    missing: str, package: str, firmware: Firmware, samples: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = firmware(load("mps2-an385"))
    monkeypatch.setattr("shutil.which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(ToolMissing, match=f"{missing} is not installed") as error:
        run(folder, ONE_STEP, samples)
    assert f"sudo apt install {package}" in error.value.fix


def test_what_qemu_says_is_passed_on(firmware: Firmware, samples: np.ndarray) -> None:
    with pytest.raises(EmulationError, match="ended with code 1") as error:
        run(firmware(replace(load("mps2-an385"), machine="no-such-machine")), ONE_STEP, samples)
    assert "unsupported machine type" in str(error.value)


def test_a_wrong_clock_is_found_out(firmware: Firmware, samples: np.ndarray) -> None:
    board = replace(load("mps2-an385"), clock_hz=25_000_100)
    with pytest.raises(EmulationError, match="instruction counter is off by"):
        count_instructions(firmware(board), samples[0], 0)


def test_a_folder_that_is_no_firmware_is_refused(tmp_path: Path, samples: np.ndarray) -> None:
    with pytest.raises(EmulationError, match="not an exported firmware folder"):
        run(tmp_path, ONE_STEP, samples)
    with pytest.raises(EmulationError, match="not an exported firmware folder"):
        build(tmp_path)


def emulators_of(folder: Path) -> list[int]:
    """Process ids of the qemu that run this folder's firmware."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if words and b"qemu-system-arm" in words[0] and any(str(folder).encode() in word for word in words):
            found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)
