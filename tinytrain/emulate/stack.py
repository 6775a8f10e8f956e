# SPDX-License-Identifier: Apache-2.0
"""The most stack a firmware can ever use, from its machine code.

Every function's frame is the sum of all it takes off the stack pointer; frames add up along the deepest path of the
call graph. A call through a pointer may reach every function whose address is stored anywhere outside the vector table:
for a tinytrain firmware these are the kernels in the program table. Recursion, or a frame whose size is computed at run
time, has no bound and is an error: tinytrain generates neither.
"""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tinytrain.emulate.build import build
from tinytrain.emulate.elf import Elf
from tinytrain.emulate.render import board_of, render
from tinytrain.emulate.tools import tool
from tinytrain.errors import EmulationError

_FRAME, _FRAME_FPU = 32 + 4, 104 + 4  # pushed by an exception: basic or with FPU registers, and alignment
_ENTRY = "main"  # where the main stack begins; start-up calls it, on the other stack

_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(\S+)(?:\t([^;@]*))?")
_TARGET = re.compile(r"(?:.*\s|^)([0-9a-f]+) <")
_READS_ONLY = re.compile(r"str|cmp|cmn|tst|cbn?z")  # instructions that do not write the register they name first
_SCRATCH = ("r0", "r1", "r2", "r3", "ip")  # a call may leave anything in them
_BRANCH = re.compile(r"b(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al)?(?:\.[nw])?|cbn?z")


@dataclass(frozen=True)
class StackBound:
    """Worst cases in bytes, exception frames included, and the functions on the deepest path from main."""

    main: int
    handler: int
    path: tuple[str, ...]


@dataclass
class _Function:
    name: str
    frame: int = 0
    calls: set[int] = field(default_factory=set)  # addresses
    indirect: bool = False
    deepest: tuple[int, tuple[str, ...]] | None = None


def stack_bound(elf: Path) -> StackBound:
    """The bound for a firmware linked with `linker_flags`."""
    file = Elf(elf)
    listing = _disassemble(elf)
    functions = _functions(file, listing)
    indirect = _address_taken(file, functions)
    entry = file.symbol(_ENTRY).address
    exception = _FRAME_FPU if re.search(r"\tv(push|ldr|mov|mul|add|stm|str)", listing) else _FRAME
    depth, path = _deepest(entry, functions, indirect, ())
    functions[entry].deepest = (0, ())  # main has its own stack
    handlers = [_deepest(address, functions, indirect, ())[0] for address in _vectors(file) if address in functions]
    return StackBound(_round_up(depth + exception), _round_up(max(handlers) + _FRAME), path)


def fit_stack(folder: Path) -> StackBound:
    """Give a firmware folder the main stack it can need at most, and not a byte more; the bound."""
    board, _ = board_of(folder)
    render(board, 8, folder)  # code does not depend on it, and a firmware that fits only just must link
    bound = stack_bound(build(folder))
    render(board, bound.main, folder)
    return bound


def _disassemble(elf: Path) -> str:
    command = [tool("arm-none-eabi-objdump"), "-d", "--no-show-raw-insn", str(elf)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _functions(file: Elf, listing: str) -> dict[int, _Function]:
    """By address. Several names of one address are one function."""
    functions = {s.address: _Function(s.name) for s in file.symbols if s.is_function}
    starts = sorted(functions)
    index, end = -1, starts[0]
    constants: dict[str, int] = {}
    for line in listing.splitlines():
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        address = int(match[1], 16)
        while address >= end:
            index += 1
            end = starts[index + 1] if index + 1 < len(starts) else 1 << 32
            constants = {}
        if index >= 0:
            function = functions[starts[index]]
            _step(file, function, match[2], (match[3] or "").strip(), line, constants)
            _follow(functions, function, (starts[index], end), match[2], (match[3] or "").strip())
    return functions


def _step(file: Elf, function: _Function, op: str, operands: str, line: str, constants: dict[str, int]) -> None:
    """Adds what one instruction takes off the stack pointer; `constants` are the known values of registers."""
    name = op.split(".")[0]
    if name in ("push", "vpush") or (name in ("stmdb", "vstmdb") and operands.startswith("sp!")):
        function.frame += _list_bytes(operands[operands.index("{") + 1 : operands.index("}")])
    elif pre := re.search(r"\[sp, #-(\d+)\]!", operands):
        function.frame += int(pre[1])
    elif re.match(r"(sub|add|mov)[sw]?$", name) and re.match(r"sp\b", operands):
        function.frame += _explicit(function, name, operands, constants)
    else:
        _learn(file, name, operands, line, constants)


def _learn(file: Elf, name: str, operands: str, line: str, constants: dict[str, int]) -> None:
    """Follows constants into registers: from a literal pool, or as Armv6-M also makes them, movs and lsls."""
    register, *rest = (part.strip() for part in operands.split(","))
    source = constants.get(rest[0] if len(rest) > 1 else register)
    if name == "ldr" and (pool := re.search(r"[;@] \(?([0-9a-f]+) ?<", line)) and "[pc" in operands:
        constants[register] = file.word(int(pool[1], 16))
    elif name == "movs" and rest[0].startswith("#"):
        constants[register] = int(rest[0][1:], 0)
    elif name == "lsls" and rest[-1].startswith("#") and source is not None:
        constants[register] = source << int(rest[-1][1:], 0) & 0xFFFFFFFF
    elif not _READS_ONLY.match(name):
        listed = re.findall(r"\w+", operands) if name.startswith(("ldm", "ldrd", "pop")) else [register]
        for each in _SCRATCH if name in ("bl", "blx") else listed:
            constants.pop(each, None)


def _explicit(function: _Function, name: str, operands: str, constants: dict[str, int]) -> int:
    """`sub sp, #24` and its relatives; 0 for what gives stack back."""
    last = operands.split(",")[-1].strip()
    if last.startswith("#"):
        return int(last[1:], 0) if name.startswith("sub") else 0
    if name.startswith("add") and last in constants:  # Armv6-M: a large frame is added as a negative constant
        return max(0, (1 << 32) - constants[last]) if constants[last] >> 31 else 0
    if name == "mov" and last == "r7":  # back to the frame pointer
        return 0
    raise EmulationError(
        f"the stack of '{function.name}' has no bound: its frame is computed at run time",
        why=f"{name} {operands}",
        fix="no variable-length arrays, no alloca",
    )


def _list_bytes(registers: str) -> int:
    total = 0
    for part in registers.split(","):
        first, _, last = part.strip().partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last and first[1:].isdigit() and last[1:].isdigit() else 1
        total += count * (8 if first.startswith("d") else 4)
    return total


def _follow(
    functions: dict[int, _Function], function: _Function, extent: tuple[int, int], op: str, operands: str
) -> None:
    """Records calls. A branch out of the function is a call too: a tail call, whose frame we do not even take off.

    A `bl` into the middle of its own function is a jump: Armv6-M has no other that reaches as far.
    """
    if (op == "bl" or _BRANCH.fullmatch(op)) and (target := _TARGET.match(operands)):
        address = int(target[1], 16)
        if not extent[0] <= address < extent[1] or (op == "bl" and address == extent[0]):
            function.calls.add(max((start for start in functions if start <= address), default=address))
    elif op == "blx" or (op == "bx" and operands != "lr"):
        function.indirect = True


def _address_taken(file: Elf, functions: dict[int, _Function]) -> set[int]:
    """Functions whose address some word or instruction holds, the vector table aside."""
    return {target & ~1 for target in file.addresses_taken(outside=(".vectors", ".boot"))} & functions.keys()


def _vectors(file: Elf) -> list[int]:
    (section,) = [each for each in file.sections if each.name == ".vectors"]
    content = file.content(section)[:64]
    return sorted({word & ~1 for word in struct.unpack(f"<{len(content) // 4}I", content)[1:]})


def _deepest(
    address: int, functions: dict[int, _Function], indirect: set[int], above: tuple[int, ...]
) -> tuple[int, tuple[str, ...]]:
    """Bytes and names of the deepest path that starts in a function."""
    function = functions[address]
    if address in above:
        names = " -> ".join(functions[a].name for a in (*above[above.index(address) :], address))
        raise EmulationError("the stack has no bound: the firmware is recursive", why=names)
    if function.deepest is None:
        called = function.calls | (indirect if function.indirect else set())
        below = [_deepest(each, functions, indirect, (*above, address)) for each in sorted(called & functions.keys())]
        depth, path = max(below, default=(0, ()))
        function.deepest = (function.frame + depth, (function.name, *path))
    return function.deepest


def _round_up(size: int) -> int:
    return (size + 7) // 8 * 8
