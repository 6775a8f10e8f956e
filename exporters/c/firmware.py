# SPDX-License-Identifier: Apache-2.0
"""The exported folder: builds with one `make`, and its parts drop into another project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tinytrain import runtime_c
from tinytrain.exporters.c.model import headers_of, model_header, model_source
from tinytrain.program import Program

# what a firmware project of one's own takes over; board/ and Makefile are ours
LIBRARY_FILES = ("tinytrain_model.h", "tinytrain_model.c", "tinytrain/")


def write_firmware(program: Program, folder: Path, title: str, variants: tuple[str, ...] = ("portable", "ref")) -> None:
    """Write the model and the runtime sources it needs, and no others, into `folder` (which exists).

    variants: kinds of kernels that suit the processor, the fastest first
    """
    (folder / "tinytrain_model.h").write_text(model_header(program, title))
    (folder / "tinytrain_model.c").write_text(model_source(program))
    sources = [runtime_c.SOURCES / name for name in ("executor.c", "model.c", "schedule.c", "store.c")]
    kernels = [runtime_c.kernel_source(kernel, variants) for kernel in program.kernels]
    include = runtime_c.INCLUDE / "tinytrain"
    headers = [include / "model.h", *(include / "kernels" / name for name in headers_of(program))]
    for path in (*sources, *kernels, *_with_included([*sources, *kernels, *headers])):
        target = folder / "tinytrain" / path.relative_to(runtime_c.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _with_included(files: list[Path]) -> list[Path]:
    """The headers among `files` and everything they all include."""
    headers: dict[Path, None] = {}
    pending = list(files)
    while pending:
        path = pending.pop()
        if path in headers:
            continue
        if path.suffix == ".h":
            headers[path] = None
        pending += [runtime_c.INCLUDE / name for name in re.findall(r'#include "(tinytrain/[^"]+)"', path.read_text())]
    return sorted(headers)
