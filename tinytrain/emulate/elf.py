# SPDX-License-Identifier: Apache-2.0
"""Just enough of ELF32 to read a firmware's sections and symbols."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinytrain.errors import EmulationError

_ALLOC, _NOBITS, _SYMTAB, _REL, _FUNC = 2, 8, 2, 9, 2
_ABS32, _TARGET1, _MOVW = 2, 38, 47  # relocations that store an address: words, and the low half in a MOVW


@dataclass(frozen=True)
class Section:
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int

    @property
    def in_memory(self) -> bool:
        return bool(self.flags & _ALLOC) and self.size > 0

    @property
    def has_bytes(self) -> bool:
        return self.kind != _NOBITS


@dataclass(frozen=True)
class Symbol:
    name: str
    address: int  # of a function: without the Thumb bit
    size: int
    is_function: bool


class Elf:
    """A linked 32-bit little-endian ELF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        if self.data[:6] != b"\x7fELF\x01\x01":
            raise EmulationError(f"{path.name} is not a 32-bit little-endian ELF file", where=str(path))

    @cached_property
    def _headers(self) -> list[tuple[int, ...]]:
        (start,) = struct.unpack_from("<I", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 46)
        return [struct.unpack_from("<10I", self.data, start + i * size) for i in range(count)]

    def _text(self, table: int, offset: int) -> str:
        start = self._headers[table][4] + offset
        return self.data[start : self.data.index(b"\0", start)].decode()

    @cached_property
    def sections(self) -> list[Section]:
        (names,) = struct.unpack_from("<H", self.data, 50)
        return [
            Section(self._text(names, name), kind, flags, address, offset, size)
            for name, kind, flags, address, offset, size, *_ in self._headers
        ]

    @cached_property
    def symbols(self) -> list[Symbol]:
        found = []
        for header in self._headers:
            kind, offset, size, link = header[1], header[4], header[5], header[6]
            if kind != _SYMTAB:
                continue
            for at in range(offset, offset + size, 16):
                name, value, length, info, _, _ = struct.unpack_from("<IIIBBH", self.data, at)
                is_function = info & 15 == _FUNC
                found.append(Symbol(self._text(link, name), value & ~1 if is_function else value, length, is_function))
        return found

    def content(self, section: Section) -> bytes:
        return self.data[section.offset : section.offset + section.size] if section.has_bytes else b""

    def symbol(self, name: str) -> Symbol:
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise EmulationError(f"{self.path.name} has no symbol '{name}'", where=str(self.path))

    def word(self, address: int) -> int:
        """The 32-bit word that is linked at an address."""
        for section in self.sections:
            if section.in_memory and section.has_bytes and 0 <= address - section.address <= section.size - 4:
                return int.from_bytes(self.content(section)[address - section.address :][:4], "little")
        raise EmulationError(f"{self.path.name} has nothing at {address:#010x}", where=str(self.path))

    def addresses_taken(self, outside: tuple[str, ...]) -> set[int]:
        """Every address a relocation stores, the named sections aside. Needs a link with --emit-relocs."""
        taken = set()
        for header in self._headers:
            kind, offset, size, patched = header[1], header[4], header[5], header[7]
            if kind != _REL or not self.sections[patched].in_memory or self.sections[patched].name in outside:
                continue
            for at in range(offset, offset + size, 8):
                where, info = struct.unpack_from("<II", self.data, at)
                if info & 255 in (_ABS32, _TARGET1):
                    taken.add(self.word(where))
                elif info & 255 == _MOVW:
                    taken.add(self.symbols[info >> 8].address)
        return taken

    def function_at(self, address: int) -> str | None:
        """The function an instruction belongs to."""
        for symbol in self.symbols:
            if symbol.is_function and symbol.address <= address & ~1 < symbol.address + max(symbol.size, 2):
                return symbol.name
        return None


@dataclass(frozen=True)
class Sections:
    """Bytes of a linked firmware, by where they live. `symbols` sizes every object in SRAM by its name."""

    flash: int  # all of it, gaps for alignment included
    sram: int
    vectors: int
    text: int
    rodata: int
    data: int
    bss: int
    stack: int
    handler_stack: int
    symbols: dict[str, int]


def sections(elf: Path) -> Sections:
    """The linked sizes of a firmware."""
    file = Elf(elf)
    by_name = {section.name: section for section in file.sections}

    def size(*names: str) -> int:
        return sum(by_name[name].size for name in names if name in by_name)

    def span(*names: str) -> int:
        present = [by_name[name] for name in names if name in by_name and by_name[name].size]
        return max(s.address + s.size for s in present) - min(s.address for s in present)

    ranges = [(s.address, s.address + s.size) for n, s in by_name.items() if n in (".data", ".bss")]
    objects = {
        symbol.name: symbol.size
        for symbol in file.symbols
        if symbol.size and not symbol.is_function and any(a <= symbol.address < b for a, b in ranges)
    }
    return Sections(
        flash=span(".vectors", ".text", ".rodata") + size(".boot", ".data"),
        sram=span(".stack", ".handler_stack", ".data", ".bss"),
        vectors=size(".vectors", ".boot"),
        text=size(".text"),
        rodata=size(".rodata"),
        data=size(".data"),
        bss=size(".bss"),
        stack=size(".stack"),
        handler_stack=size(".handler_stack"),
        symbols=objects,
    )
