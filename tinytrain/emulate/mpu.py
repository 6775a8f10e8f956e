# SPDX-License-Identifier: Apache-2.0
"""The MPU as a whitelist: exactly the board's flash (read, execute) and SRAM (read, write) and nothing else.

v7-M regions are powers of two, aligned to their size, split in eight subregions that can be switched off; several are
needed to cover an odd size to the byte. v8-M regions have a base and a limit, so one each is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytrain.boards import GRAIN, Board, Memory
from tinytrain.errors import BoardError

V7M_REGIONS = 8  # every Cortex-M3, M4 and M7 with an MPU has at least these
_SUBREGIONS_FROM = 256  # smaller v7-M regions have no subregions

_V7M_NORMAL, _V7M_XN = 1 << 19, 1 << 28  # TEX=1 C=0 B=0: normal, not cached
_V7M_READ_ONLY, _V7M_READ_WRITE = 6 << 24, 3 << 24
_V8M_XN, _V8M_READ_WRITE, _V8M_READ_ONLY = 1, 1 << 1, 3 << 1


@dataclass(frozen=True)
class Region:
    """A v7-M region; bit i of `disabled` switches subregion i off."""

    base: int
    size: int
    disabled: int

    def covered(self) -> list[tuple[int, int]]:
        """The address ranges it opens."""
        step = self.size // 8
        if not self.disabled:
            return [(self.base, self.base + self.size)]
        on = [i for i in range(8) if not self.disabled >> i & 1]
        return [(self.base + i * step, self.base + (i + 1) * step) for i in on]


def cover(memory: Memory) -> list[Region]:
    """v7-M regions that together open `memory` and not one byte more. Greedy: each takes as much as one region can."""
    regions = []
    position, end = memory.origin, memory.end
    while position < end:
        region, position = max(_candidates(position, end), key=lambda each: (each[1], -each[0].size))
        regions.append(region)
    return regions


def _candidates(position: int, end: int) -> list[tuple[Region, int]]:
    """Regions that open a range starting at `position`, each with the address it reaches."""
    found = []
    size = GRAIN
    while size <= 1 << 32:
        base = position // size * size
        if base == position and position + size <= end:
            found.append((Region(base, size, 0), position + size))
        step = size // 8
        if size >= _SUBREGIONS_FROM and position % step == 0:
            first, last = (position - base) // step, min(8, (end - base) // step)
            if first < last:
                enabled = sum(1 << i for i in range(first, last))
                found.append((Region(base, size, 0xFF & ~enabled), base + last * step))
        size *= 2
    return found


def mpu_words(board: Board) -> list[tuple[int, int]]:
    """The register pairs start-up writes: RBAR and RASR (v7-M) or RBAR and RLAR (v8-M), one per region."""
    if board.mpu == "v8m":
        return [
            _v8m(board.flash, _V8M_READ_ONLY),
            _v8m(board.sram, _V8M_READ_WRITE | _V8M_XN),
        ]
    words = [_v7m(region, _V7M_READ_ONLY) for region in cover(board.flash)]
    words += [_v7m(region, _V7M_READ_WRITE | _V7M_XN) for region in cover(board.sram)]
    if len(words) > V7M_REGIONS:
        raise BoardError(
            f"{board.flash.size:,} B of flash and {board.sram.size:,} B of SRAM cannot be enforced to the byte",
            where=f"board {board.name}",
            why=f"they need {len(words)} MPU regions and the core has {V7M_REGIONS}",
            fix="rounder sizes: multiples of 1 KB always work",
        )
    return words


def _v7m(region: Region, access: int) -> tuple[int, int]:
    size_field = region.size.bit_length() - 2  # the region holds 2^(field + 1) bytes
    return region.base, access | _V7M_NORMAL | region.disabled << 8 | size_field << 1 | 1


def _v8m(memory: Memory, access: int) -> tuple[int, int]:
    return memory.origin | access, (memory.end - GRAIN) | 1  # RLAR names the last 32 bytes; attribute index 0
