# SPDX-License-Identifier: Apache-2.0
"""The exact account of a scheme: the compiler's own layout, and a trial link for what only a linker knows."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tinytrain.boards import Board, Memory, all_boards
from tinytrain.boards import load as load_board
from tinytrain.emulate import HANDLER_STACK_BYTES, build, makefile, render, sections, stack_bound
from tinytrain.errors import BudgetError
from tinytrain.exporters.c import write_firmware
from tinytrain.graph import Graph
from tinytrain.memory import FlashLedger, Layout, SramLedger, lay_out
from tinytrain.program import Program, Space, lower

# until a firmware is linked: its statics and stacks are taken to be this large (those of our kernels are smaller)
ASSUMED_STATICS, ASSUMED_STACK = 16, 1024
TRIAL_STACK = 4096
ROOMY = 64 << 20  # bytes of each memory in a trial link


@dataclass(frozen=True)
class Overhead:
    """What the runtime and the board's start-up code add: bytes, and the deepest call chain."""

    statics: int
    stack: int
    code: int | None
    stack_path: tuple[str, ...] = ()


ASSUMED = Overhead(ASSUMED_STATICS, ASSUMED_STACK, None)


@dataclass(frozen=True)
class Account:
    """A training graph, where its bytes are, and what they sum up to."""

    graph: Graph
    layout: Layout
    program: Program
    sram: SramLedger
    flash: FlashLedger
    overhead: Overhead

    @property
    def classes(self) -> int:
        return self.graph[self.graph.outputs[0]].size

    @property
    def peak_node(self) -> str:
        node = self.graph.nodes[self.layout.peak_node]
        return f"node {self.layout.peak_node} '{node.name}' ({node.phase.name.lower()})"


def account(graph: Graph, board: Board, overhead: Overhead = ASSUMED) -> Account:
    """The ledger of a training graph under a given overhead."""
    layout = lay_out(graph)
    program = lower(graph, layout)
    sizes = program.sizes
    sram = SramLedger(
        board.sram.size, sizes[Space.ARENA], layout.lower_bound, sizes[Space.PARAMETERS], sizes[Space.MASTERS],
        sizes[Space.OPTIMIZER], overhead.statics + sizes[Space.STATE] + arena_padding(program), overhead.stack,
    )  # fmt: skip
    flash = FlashLedger(board.flash.size, overhead.code, program.constant_bytes, store_bytes(program))
    return Account(graph, layout, program, sram, flash, overhead)


def arena_padding(program: Program) -> int:
    """Bytes the linker leaves behind the arena, so that what follows is aligned."""
    return -program.sizes[Space.ARENA] % 8


def store_bytes(program: Program) -> int:
    """The initial images that lie in flash; a space that starts as zeros needs none."""
    return sum(image.nbytes for image in program.images.values() if image.any())


def linked(found: Account, board: Board) -> Account:
    """The same account with the overhead of its own firmware, as linked for this board.

    The first link has all the memory in the world and tells the stack and the sizes; where they fit the board, a second
    one has the board's own memories, whose protection tables take a few bytes more or less.
    """
    with tempfile.TemporaryDirectory(prefix="tinytrain-link-") as name:
        folder = Path(name)
        write_firmware(found.program, folder, found.graph.name, board.variants)
        roomy = replace(board, sram=Memory(board.sram.origin, ROOMY), flash=Memory(board.flash.origin, ROOMY))
        result = _link(found, board, roomy, TRIAL_STACK, folder)
        if result.sram.total <= board.sram.size and (result.flash.total or 0) <= board.flash.size:
            result = _link(found, board, board, result.sram.stack - HANDLER_STACK_BYTES, folder)
    return result


def _link(found: Account, board: Board, target: Board, stack_bytes: int, folder: Path) -> Account:
    render(target, stack_bytes, folder)
    (folder / "Makefile").write_text(makefile(target))
    elf = build(folder)
    sizes, stack = sections(elf), stack_bound(elf)
    spaces = found.sram.arena + found.sram.parameters + found.sram.masters + found.sram.optimizer
    statics = sizes.data + sizes.bss - spaces - found.program.sizes[Space.STATE] - arena_padding(found.program)
    code = sizes.flash - found.flash.constants - found.flash.store
    overhead = Overhead(statics, stack.main + HANDLER_STACK_BYTES, code, stack.path)
    return account(found.graph, board, overhead)


def require_fit(found: Account, board: Board, smallest: bool) -> None:
    """BudgetError where the account exceeds the board, saying by how much, where, and what would help.

    smallest: whether this is the least that can be trained (the classifier alone)
    """
    over = found.sram.total - board.sram.size
    flash_over = (found.flash.total or 0) - board.flash.size
    if over <= 0 and flash_over <= 0:
        return
    what = "the smallest possible plan" if smallest else "this scheme"
    if over <= 0:
        raise BudgetError(
            f"{what} needs {flash_over:,} bytes more flash than the board has",
            where=f"{board.name}: {board.flash.size:,} B of flash",
            why=f"code {found.flash.code:,} B, constants {found.flash.constants:,} B, store {found.flash.store:,} B",
            fix=_bigger_board(found, board),
        )
    live = found.layout.lower_bound
    fixes = [] if smallest else ["leave the scheme to the planner (no --scheme)"]
    if not smallest and found.sram.masters:
        fixes.append(f"--update stochastic saves {found.sram.masters:,} B of masters")
    raise BudgetError(
        f"{what} needs {over:,} bytes more SRAM than the board has",
        where=f"{board.name}: {board.sram.size:,} B of SRAM, {found.sram.total:,} B needed",
        why=f"peak at {found.peak_node}: {live:,} B live; parameters {found.sram.parameters:,} B, "
        f"masters {found.sram.masters:,} B, optimizer {found.sram.optimizer:,} B, stack {found.sram.stack:,} B",
        fix="; ".join([*fixes, _bigger_board(found, board)]),
    )


def _bigger_board(found: Account, board: Board) -> str:
    fitting = [
        other.name
        for other in all_boards()
        if other.sram.size >= found.sram.total and other.flash.size >= (found.flash.total or 0)
    ]
    if load_board(board.name).sram.size >= found.sram.total and load_board(board.name).flash.size >= (
        found.flash.total or 0
    ):
        return f"raise --sram or --flash: the {board.name} itself has more"
    return f"--board {fitting[0]}" if fitting else "a model with a smaller input"
