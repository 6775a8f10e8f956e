# SPDX-License-Identifier: Apache-2.0
"""Builds a firmware folder with its own Makefile."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tinytrain.emulate.tools import tool
from tinytrain.errors import BudgetError, EmulationError

_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")


def build(folder: Path) -> Path:
    """Run make in an exported folder; the path of its firmware.elf."""
    make = tool("make")
    tool("arm-none-eabi-gcc")
    if not (folder / "Makefile").is_file():
        raise EmulationError(f"'{folder}' is not an exported firmware folder", fix="tinytrain export PLAN -o FOLDER")
    result = subprocess.run(
        [make, "--silent", "-C", str(folder), f"-j{os.cpu_count() or 1}"],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C", "MAKEFLAGS": ""},  # messages we can parse; not a sub-make of our caller's
        check=False,
    )
    if result.returncode != 0:
        raise _reason(folder, result.stderr)
    return folder / "build" / "firmware.elf"


def _reason(folder: Path, output: str) -> Exception:
    overflows = dict(_OVERFLOW.findall(output))
    if overflows:
        parts = [f"{'flash' if region == 'FLASH' else region} by {int(size):,} B" for region, size in overflows.items()]
        return BudgetError(
            "the firmware does not fit its board: it exceeds " + " and ".join(parts),
            where=str(folder / "board" / "board.ld"),
            why="the linker script has the sizes that were planned for, stacks included",
            fix="plan again with a smaller scheme, or for a bigger board",
        )
    errors = [line for line in output.splitlines() if "error" in line.lower()][:5]
    return EmulationError(
        f"the firmware in '{folder}' does not build",
        why="\n       ".join(errors or output.splitlines()[-5:]),
        fix=f"make -C {folder}",
    )
