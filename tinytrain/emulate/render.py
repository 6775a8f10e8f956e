# SPDX-License-Identifier: Apache-2.0
"""Writes what a firmware folder needs for its board: `board/` (start-up, linker script, MPU, harness), a Makefile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template
from typing import Any

from tinytrain.boards import COMMON, Board
from tinytrain.emulate.mpu import mpu_words
from tinytrain.errors import BudgetError, EmulationError

HANDLER_STACK_BYTES = 256  # exceptions run here; test_stack.py holds its static bound below this
STATIC_BYTES = 4  # the harness' own static data: the wrap counter in count.c
SOURCES = ("startup.c", "fault.c", "semihost.c", "count.c", "memory.c", "harness.c")
_HEADERS = ("board.h", "semihost.h")

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion")


def render(board: Board, stack_bytes: int, destination: Path) -> None:
    """Write `destination/board/` for a board (narrowed or not) with a main stack of `stack_bytes`."""
    if stack_bytes <= 0 or stack_bytes % 8:
        raise BudgetError(f"a main stack of {stack_bytes} B", why="Arm stacks are multiples of 8 bytes")
    header = _config(board)  # may refuse: nothing is written then
    folder = destination / "board"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*SOURCES, *_HEADERS):
        shutil.copyfile(COMMON / name, folder / name)
    (folder / "board_config.h").write_text(header)
    (folder / "board.ld").write_text(_linker_script(board, stack_bytes))
    (folder / "board.json").write_text(json.dumps({**board.as_dict(), "stack": stack_bytes}, indent=2) + "\n")


def board_of(folder: Path) -> tuple[Board, int]:
    """The board a folder was rendered for, narrowed as it was, and its main stack in bytes."""
    path = folder / "board" / "board.json"
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        stack = int(fields.pop("stack"))
        return Board.from_dict(fields), stack
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmulationError(
            f"'{folder}' is not an exported firmware folder", why=f"{path.name}: {error}", fix="tinytrain export"
        ) from error


def board_sources() -> list[str]:
    """The C files `render` writes, relative to the firmware folder."""
    return [f"board/{name}" for name in SOURCES]


def compiler_flags(board: Board, optimize: str = "-O2") -> list[str]:
    """The flags of one compile, without include paths."""
    dialect = ("-std=c99", "-masm-syntax-unified")  # the latter: one assembler syntax, also for Armv6-M
    return [*board.cflags, *dialect, optimize, "-ffunction-sections", "-fdata-sections", *WARNINGS]


def linker_flags() -> list[str]:
    """Nothing but the listed sources and libgcc: no libc, no start files. The relocations are for `stack_bound`."""
    return ["-nostdlib", "-Wl,--gc-sections,--emit-relocs", "-Wl,-T,board/board.ld,-Map,build/firmware.map"]


def makefile(board: Board, optimize: str = "-O2") -> str:
    """A Makefile for the whole folder: `make` leaves build/firmware.elf."""
    return Template(_MAKEFILE).substitute(
        description=board.description,
        cpu=" ".join(board.cflags),
        optimize=optimize,
        flags=" ".join(compiler_flags(board, optimize)[len(board.cflags) :]).replace(optimize, "$(OPTIMIZE)"),
        ldflags=" ".join(linker_flags()),
        sources=" ".join(board_sources()),
    )


_MAKEFILE = """\
# SPDX-License-Identifier: Apache-2.0
# Firmware for: $description
# `make` leaves build/firmware.elf. Memory that does not fit is an error of the linker, see board/board.ld.
CROSS    ?= arm-none-eabi-
CC       := $$(CROSS)gcc
CPU      := $cpu
OPTIMIZE ?= $optimize
CFLAGS   := $$(CPU) $flags -I. -Iboard -Itinytrain/include $$(EXTRA_CFLAGS)
LDFLAGS  := $ldflags

SOURCES  := tinytrain_model.c \\
            $sources \\
            $$(sort $$(wildcard $$(addprefix tinytrain/src/,*.c */*.c */*/*.c */*/*/*.c)))
OBJECTS  := $$(SOURCES:%.c=build/%.o)

build/firmware.elf: $$(OBJECTS) board/board.ld Makefile
	$$(CC) $$(CPU) $$(LDFLAGS) $$(OBJECTS) -lgcc -o $$@

build/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) -MMD -c $$< -o $$@

.PHONY: clean
clean:
	rm -rf build

-include $$(OBJECTS:.o=.d)
"""


def _linker_script(board: Board, stack_bytes: int) -> str:
    boot_memory = boot_section = ""
    if board.boot is not None:
        boot_memory = f"  BOOT  (r)   : ORIGIN = {board.boot:#010x}, LENGTH = 8\n"
        boot_section = "  .boot : { KEEP(*(.boot)) } > BOOT\n\n"
    return Template((COMMON / "board.ld.in").read_text()).substitute(
        description=board.description,
        boot_memory=boot_memory,
        boot_section=boot_section,
        flash_origin=f"{board.flash.origin:#010x}",
        flash_size=board.flash.size,
        sram_origin=f"{board.sram.origin:#010x}",
        sram_size=board.sram.size,
        stack=stack_bytes,
        handler_stack=HANDLER_STACK_BYTES,
    )


def _config(board: Board) -> str:
    words = mpu_words(board)
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        f"// {board.description}: flash {board.flash.origin:#010x} + {board.flash.size} B,"
        f" SRAM {board.sram.origin:#010x} + {board.sram.size} B.",
        "#ifndef BOARD_CONFIG_H",
        "#define BOARD_CONFIG_H",
        "",
        "#include <stdint.h>",
        "",
        *(["#define BOARD_BOOT"] if board.boot is not None else []),
        *(["#define BOARD_MPU_V8M"] if board.mpu == "v8m" else []),
        f"#define BOARD_MPU_REGIONS {len(words)}u",
        "",
        f"// {'RBAR, RLAR' if board.mpu == 'v8m' else 'RBAR, RASR'}: these ranges and nothing else",
        "static const uint32_t board_mpu[BOARD_MPU_REGIONS][2] = {",
        *(f"    {{{base:#010x}u, {attributes:#010x}u}}," for base, attributes in words),
        "};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
