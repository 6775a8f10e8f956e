# SPDX-License-Identifier: Apache-2.0
"""What the linker's map says of a built firmware: the machine code of each kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tinytrain.errors import EmulationError

_START = "Linker script and memory map"
# a section that was kept: name, address, size, object file; a long name has the rest on a line of its own
_KERNEL_TEXT = re.compile(r"^ \.text\S*\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+\S*/kernels/(\w+)/(\w+)\.o$", re.MULTILINE)


@dataclass(frozen=True)
class KernelCode:
    """A kernel's machine code in a firmware: which twin was linked, and its bytes with all it calls in its own file."""

    variant: str
    size: int


def kernel_code(folder: Path) -> dict[str, KernelCode]:
    """Of each kernel of a folder that was built, by name."""
    path = folder / "build" / "firmware.map"
    try:
        text = path.read_text()
    except OSError as error:
        raise EmulationError(
            f"'{folder}' has no map of its firmware", where=str(path), why=error.strerror or str(error),
            fix=f"make -C {folder}",
        ) from None  # fmt: skip
    found: dict[str, KernelCode] = {}
    for size, variant, kernel in _KERNEL_TEXT.findall(text[text.find(_START) :]):
        known = found.get(kernel, KernelCode(variant, 0))
        found[kernel] = KernelCode(variant, known.size + int(size, 16))
    return found
