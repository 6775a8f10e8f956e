# SPDX-License-Identifier: Apache-2.0
"""The runtime as a shared library: compiled once per source state and machine, kept in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

import tinytrain.runtime_c as runtime_c
from tinytrain.errors import TinytrainError, ToolMissing

FLAGS = ("-std=c99", "-O3", "-fPIC", "-shared", "-fvisibility=default")
NATIVE = "-march=native"
VARIANTS = ("host", "ref")  # kinds of kernels, the fastest first


@dataclass(frozen=True)
class Runtime:
    """ffi: cffi with the runtime's structs and prototypes; lib: the loaded library."""

    ffi: cffi.FFI
    lib: Any


def declarations() -> str:
    """What the headers declare, in the form cffi parses: no preprocessor lines, no comments."""
    include = runtime_c.INCLUDE / "tinytrain"
    headers = [include / "types.h", include / "program.h", *sorted((include / "kernels").glob("*.h"))]
    text = "\n".join(header.read_text() for header in headers)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    # cffi evaluates no shifts of enum constants; nothing here needs them
    return re.sub(r"enum \{\s*TT_RUN_INFER.*?\};", "", text, flags=re.DOTALL)


def sources(variants: tuple[str, ...] = VARIANTS) -> list[Path]:
    kernels = [runtime_c.kernel_source(kernel, variants) for kernel in runtime_c.kernels()]
    return [*sorted(runtime_c.SOURCES.glob("*.c")), *kernels]


def cache_folder() -> Path:
    """$TINYTRAIN_CACHE, else tinytrain in the user's cache folder."""
    if override := os.environ.get("TINYTRAIN_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinytrain"


def compiler() -> str:
    """The host C compiler: $CC, cc, gcc or clang."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise ToolMissing(
        "no C compiler on this machine",
        why="the runtime is compiled once for the host, so that host and board run the same code",
        fix="apt-get install gcc libc6-dev",
    )


def instruction_set() -> str:
    """What the compiler makes of NATIVE on this processor: its predefined macros; empty where it refuses the flag."""
    command = [compiler(), NATIVE, "-dM", "-E", "-x", "c", os.devnull]
    result = subprocess.run(command, capture_output=True, text=True)
    return "" if result.returncode else result.stdout


def build(flags: tuple[str, ...] | None = None, variants: tuple[str, ...] = VARIANTS) -> Path:
    """Compile the runtime, or find the library an earlier call compiled from the same sources for the same processor.

    flags: by default FLAGS, and NATIVE where the compiler takes it; variants: kinds of kernels, the fastest first
    """
    processor = instruction_set() if flags is None else ""
    if flags is None:
        flags = (*FLAGS, NATIVE) if processor else FLAGS
    files = sources(variants)
    headers = sorted((runtime_c.INCLUDE / "tinytrain").rglob("*.h"))
    digest = hashlib.sha256(repr((flags, platform.machine(), processor, compiler())).encode())
    for path in (*files, *headers):
        digest.update("/".join(path.parts[-2:]).encode() + path.read_bytes())
    library = cache_folder() / f"runtime-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        fresh = Path(folder) / "runtime.so"
        command = [compiler(), *flags, f"-I{runtime_c.INCLUDE}", *map(str, files), "-o", str(fresh)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise TinytrainError("the runtime does not compile on this machine", why=result.stderr[-2000:])
        os.replace(fresh, library)
    return library


@functools.cache
def runtime() -> Runtime:
    """The runtime of this process."""
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return Runtime(ffi, ffi.dlopen(str(build())))
