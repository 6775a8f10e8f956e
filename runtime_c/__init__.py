# SPDX-License-Identifier: Apache-2.0
"""The C runtime as package data: headers in include/, sources in src/."""

from pathlib import Path

ROOT = Path(__file__).parent
INCLUDE = ROOT / "include"
SOURCES = ROOT / "src"
KERNELS = SOURCES / "kernels"


def kernel_source(kernel: str, variant: str = "ref") -> Path:
    """The file that defines a kernel: it is named after its function."""
    return KERNELS / variant / f"{kernel}.c"
