# SPDX-License-Identifier: Apache-2.0
"""Build an exported folder for a board, boot it, feed it, read its report."""

from tinytrain.emulate.build import build
from tinytrain.emulate.count import Instructions, RowCount
from tinytrain.emulate.elf import Sections, sections
from tinytrain.emulate.linkmap import KernelCode, kernel_code
from tinytrain.emulate.protocol import CommandStream
from tinytrain.emulate.render import (
    HANDLER_STACK_BYTES,
    STATIC_BYTES,
    board_of,
    board_sources,
    compiler_flags,
    linker_flags,
    makefile,
    render,
)
from tinytrain.emulate.run import BoardReport, Marks, Pass, Progress, Window, count_instructions, run
from tinytrain.emulate.stack import StackBound, fit_stack, stack_bound

__all__ = [
    "HANDLER_STACK_BYTES",
    "STATIC_BYTES",
    "BoardReport",
    "CommandStream",
    "Instructions",
    "KernelCode",
    "Marks",
    "Pass",
    "Progress",
    "RowCount",
    "Sections",
    "StackBound",
    "Window",
    "board_of",
    "board_sources",
    "build",
    "compiler_flags",
    "count_instructions",
    "fit_stack",
    "kernel_code",
    "linker_flags",
    "makefile",
    "render",
    "run",
    "sections",
    "stack_bound",
]
