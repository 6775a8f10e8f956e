# SPDX-License-Identifier: Apache-2.0
"""The board's own memcpy, memmove, memset and memcmp, built for this machine and compared with Python's bytes."""

from __future__ import annotations

import ctypes
import random
import subprocess
from pathlib import Path

import pytest

from tinytrain.boards import COMMON

NAMES = ("memcpy", "memmove", "memset", "memcmp")
SIZE = 96


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("memory") / "memory.so"
    renamed = [f"-D{name}=board_{name}" for name in NAMES]
    command = ["cc", "-shared", "-fPIC", "-O2", "-fno-builtin", *renamed, str(COMMON / "memory.c"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def test_memory_functions_at_every_alignment_and_overlap(board: ctypes.CDLL) -> None:
    rng = random.Random(0)
    for _ in range(4000):
        before = rng.randbytes(SIZE)
        buffer = (ctypes.c_uint8 * SIZE).from_buffer_copy(before)
        base = ctypes.addressof(buffer)
        size = rng.randrange(40)
        to, source = rng.randrange(SIZE - size), rng.randrange(SIZE - size)
        name = rng.choice(NAMES[:3])
        value = rng.randrange(256)
        if name == "memcpy" and abs(to - source) < size:
            name = "memmove"
        last = ctypes.c_int(value) if name == "memset" else ctypes.c_void_p(base + source)
        getattr(board, f"board_{name}")(ctypes.c_void_p(base + to), last, ctypes.c_size_t(size))
        new = bytes([value] * size) if name == "memset" else before[source : source + size]
        expected = before[:to] + new + before[to + size :]
        assert bytes(buffer) == expected, f"{name}: to {to}, from {source}, {size} bytes"


@pytest.mark.parametrize(("left", "right", "sign"), [(b"ab", b"ab", 0), (b"a\xff", b"a\x01", 1), (b"a", b"b", -1)])
def test_memcmp_compares_unsigned_bytes(board: ctypes.CDLL, left: bytes, right: bytes, sign: int) -> None:
    assert board.board_memcmp(left, right, ctypes.c_size_t(len(left))) == sign


def test_board_headers_and_sources_are_all_rendered() -> None:
    from tinytrain.emulate import board_sources

    sources = {Path(path).name for path in board_sources()}
    assert sources == {path.name for path in COMMON.glob("*.c")}
