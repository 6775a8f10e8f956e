# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: the host runtime with the address and the undefined behaviour sanitizer, which stop at a report.

The process must have libasan loaded before anything else: `environment()` says how.

    env LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 pytest -p tests.sanitized tests/ops
"""

from __future__ import annotations

import importlib
import os
import subprocess
from pathlib import Path

from tinytrain.host.runtime import compiler

FLAGS = ("-std=c99", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

_module = importlib.import_module("tinytrain.host.runtime")
_build = _module.build


def _sanitized(flags: tuple[str, ...] = FLAGS) -> Path:
    return _build(FLAGS)


_module.build = _sanitized  # type: ignore[attr-defined]


def environment() -> dict[str, str]:
    """Of a process with this plugin; empty where the compiler has no sanitizer that can be preloaded."""
    command = [compiler(), "-print-file-name=libasan.so"]
    library = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(library):
        return {}
    return {**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
