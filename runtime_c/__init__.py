# SPDX-License-Identifier: Apache-2.0
"""The C runtime as package data: headers in include/, sources in src/.

Of a kernel there may be several sources, twins that leave the same bits. A folder below src/kernels holds those for one
kind of processor; `ref` holds one of every kernel.
"""

from pathlib import Path

ROOT = Path(__file__).parent
INCLUDE = ROOT / "include"
SOURCES = ROOT / "src"
KERNELS = SOURCES / "kernels"


def kernel_source(kernel: str, variants: tuple[str, ...] = ("ref",)) -> Path:
    """The file that defines a kernel, named after its function: the first one in the folders `variants`."""
    paths = [KERNELS / variant / f"{kernel}.c" for variant in variants]
    return next((path for path in paths if path.exists()), paths[-1])


def kernels() -> list[str]:
    """Names of all kernels, sorted."""
    return sorted(path.stem for path in (KERNELS / "ref").glob("*.c"))
