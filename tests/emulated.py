# SPDX-License-Identifier: Apache-2.0
"""Programs whose kernels run on an emulated core: a Machine like the host's, with the kernels a board would get.

One emulator per board stays on for the whole test run. Memory goes there and back with every call.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinytrain import runtime_c
from tinytrain.boards import Board, load
from tinytrain.emulate import render
from tinytrain.emulate.qemu import command
from tinytrain.emulate.render import board_sources, compiler_flags, linker_flags
from tinytrain.graph import Phase
from tinytrain.host import Machine
from tinytrain.host.runtime import cache_folder, runtime
from tinytrain.program import Location, Pointer, Program, Space, StructArray

LARGEST_MEMORY = 1 << 20
STACK_BYTES = 32768
GUARD = bytes(range(0xE0, 0xF0))  # beside every piece of memory, and still there afterwards
HERE = Path(__file__).parent


@functools.cache
def firmware(board: Board) -> Path:
    """Every kernel as this board would get it, and the loop that runs them; kept in the cache for these sources."""
    sources = [runtime_c.kernel_source(kernel, board.variants) for kernel in runtime_c.kernels()]
    digest = hashlib.sha256(repr((board, (HERE / "kernel_board.c").read_text())).encode())
    for path in (*sources, *sorted(runtime_c.ROOT.rglob("*.h"))):
        digest.update(str(path).encode() + path.read_bytes())
    elf = cache_folder() / f"kernels-{digest.hexdigest()[:16]}.elf"
    if elf.exists():
        return elf
    elf.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=elf.parent) as name:
        folder = Path(name)
        render(board, STACK_BYTES, folder)
        (folder / "kernel_table.h").write_text(_table(board))
        (folder / "build").mkdir()
        support = [folder / path for path in board_sources() if "harness" not in path]
        files = [HERE / "kernel_board.c", *sources, *support]
        includes = [f"-I{folder}", f"-I{folder / 'board'}", f"-I{runtime_c.INCLUDE}"]
        jobs = []
        for index, path in enumerate(files):
            arguments = [*compiler_flags(board), *includes, "-c", path, "-o", folder / f"{index}.o"]
            jobs.append(subprocess.Popen(["arm-none-eabi-gcc", *arguments], stderr=subprocess.PIPE, text=True))
            if len(jobs) == (os.cpu_count() or 1):
                _finish(jobs.pop(0))
        while jobs:
            _finish(jobs.pop(0))
        objects = [folder / f"{index}.o" for index in range(len(files))]
        link = ["arm-none-eabi-gcc", *board.cflags, *linker_flags(), *objects, "-lgcc", "-o", folder / "kernels.elf"]
        subprocess.run(link, check=True, cwd=folder)
        os.replace(folder / "kernels.elf", elf)
    return elf


def _finish(job: subprocess.Popen[str]) -> None:
    _, errors = job.communicate()
    assert job.returncode == 0, errors[:3000]


def memory_of(board: Board) -> int:
    """Bytes for a program: its memory, its constants, and the arguments of its kernels."""
    return min(LARGEST_MEMORY, board.sram.size - STACK_BYTES - 4096)


def fits(program: Program, board: Board) -> bool:
    """Whether a board can hold a program, with room for guards and arguments."""
    return sum(program.sizes.values()) + program.constant_bytes + 8192 <= memory_of(board)


def _table(board: Board) -> str:
    lines = [f"void {kernel}(const void *args);" for kernel in runtime_c.kernels()]
    names = ", ".join(runtime_c.kernels())
    size = memory_of(board)
    return "\n".join(["#include <stdint.h>", f"#define MEMORY_BYTES {size}", *lines,
                      f"static void (*const kernels[])(const void *) = {{{names}}};", ""])  # fmt: skip


class Core:
    """An emulator that waits for kernels to run."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._folder = tempfile.TemporaryDirectory(prefix="tinytrain-core-")
        folder = Path(self._folder.name)
        for name in ("jobs", "results"):
            os.mkfifo(folder / name)
        self._errors = open(folder / "stdout", "w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command(board, firmware(board), count=False), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=self._errors, stderr=self._errors, start_new_session=True,
        )  # fmt: skip
        atexit.register(self.close)
        self._jobs = open(folder / "jobs", "wb", buffering=0)  # noqa: SIM115
        self._results = open(folder / "results", "rb", buffering=0)  # noqa: SIM115
        self.base, self.size = struct.unpack("<2I", self._read(8))

    def run(self, memory: bytes, rows: int, rows_at: int, back: int) -> bytes:
        """Memory of the board, its start what is sent, after the rows ran; the first `back` bytes of it."""
        assert len(memory) <= self.size, f"{len(memory)} B for a board with {self.size}"
        self._jobs.write(struct.pack("<4I", len(memory), rows, self.base + rows_at, back))
        view = memoryview(memory)
        while view:
            view = view[self._jobs.write(view) :]
        return self._read(back)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._results.read(count)
            if not piece:
                self._errors.seek(0)
                core_of.cache_clear()
                raise AssertionError(f"{self.board.name} stopped: {self._errors.read()[-500:]}")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


@functools.cache
def core_of(board: str) -> Core:
    return Core(load(board))


class EmulatedMachine(Machine):
    """A Program in the memory of an emulated board. int8 constants lie at addresses without alignment, as in flash."""

    def __init__(self, program: Program, board: str) -> None:
        super().__init__(program)
        self.board = board

    def run(self, phases: Iterable[Phase], first: int = 0, end: int | None = None) -> None:
        core = core_of(self.board)
        wanted = set(phases)
        image = _Image(self, core.base)
        rows = [row for row in self.program.rows[first:end] if row.phase in wanted]
        table = b"".join(
            struct.pack("<2I", runtime_c.kernels().index(row.kernel), image.struct(row.args, f"{row.kernel}_args"))
            for row in rows
        )
        at = image.put(table, 4)
        back = core.run(bytes(image.bytes), len(rows), at - core.base, image.spaces_end)
        image.take(back)


class _Image:
    """Memory of a board as it is sent: spaces first, then constants and arguments."""

    def __init__(self, machine: EmulatedMachine, base: int) -> None:
        self.machine, self.base = machine, base
        self.bytes = bytearray(GUARD)
        self.spaces: dict[Space, int] = {}
        for space, array in machine.memory.items():
            self.spaces[space] = self.put(array.tobytes(), 8)
            self.bytes += GUARD
        self.spaces_end = len(self.bytes)
        self.constants = []
        for index, array in enumerate(machine.program.constants):
            aligned = array.data.dtype.itemsize > 1
            if not aligned:
                self.bytes += bytes(index % 4)
            self.constants.append(self.put(array.data.tobytes(), 8 if aligned else 1))

    def put(self, data: bytes, alignment: int) -> int:
        """Append; the address."""
        self.bytes += bytes(-len(self.bytes) % alignment)
        at = self.base + len(self.bytes)
        self.bytes += data
        return at

    def take(self, back: bytes) -> None:
        """The spaces as the board left them."""
        assert back[: len(GUARD)] == GUARD, "a kernel wrote before its memory"
        for space, array in self.machine.memory.items():
            start = self.spaces[space] - self.base
            array[:] = np.frombuffer(back, np.uint8, len(array), start)
            guard = back[start + len(array) : start + len(array) + len(GUARD)]
            assert guard == GUARD, f"a kernel wrote past {space}"

    def struct(self, args: Mapping[str, Any], ctype: Any) -> int:
        return self.put(self._packed(args, ctype), 4)

    def _packed(self, args: Mapping[str, Any], ctype: Any) -> bytes:
        """On a 32-bit core every field is a word, or a struct of words."""
        ctype = runtime().ffi.typeof(ctype) if isinstance(ctype, str) else ctype
        return b"".join(self._field(args[key], kind.type) for key, kind in ctype.fields)

    def _field(self, value: Any, ctype: Any) -> bytes:
        match value:
            case Pointer():
                return struct.pack("<I", 0 if value.location is None else self._address(value.location))
            case StructArray():
                items = b"".join(self._packed(item, value.struct) for item in value.items)
                return struct.pack("<I", self.put(items, 4))
            case Mapping():
                return self._packed(value, ctype)
        return struct.pack("<I", int(value) & 0xFFFFFFFF)

    def _address(self, location: Location) -> int:
        if location.space is Space.CONSTANTS:
            return self.constants[location.offset]
        return self.spaces[location.space] + location.offset
