# SPDX-License-Identifier: Apache-2.0
"""The programs this package calls, and what to install when one is missing."""

from __future__ import annotations

import shutil

from tinytrain.errors import ToolMissing

_PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-objdump": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "make": "make",
}
_PURPOSE = {
    "arm-none-eabi-gcc": "it compiles the firmware",
    "arm-none-eabi-objdump": "it disassembles the firmware to bound its stack",
    "qemu-system-arm": "it emulates the board",
    "make": "it builds the firmware folder",
}


def tool(name: str) -> str:
    """The path of a program, or ToolMissing with the command that installs it."""
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(f"{name} is not installed", why=_PURPOSE[name], fix=f"sudo apt install {_PACKAGES[name]}")
    return path
