# SPDX-License-Identifier: Apache-2.0
"""The MPU whitelist opens a memory to the byte, and no more."""

from __future__ import annotations

import random

import pytest

from tinytrain.boards import Memory, all_boards, load
from tinytrain.emulate.mpu import V7M_REGIONS, Region, cover, mpu_words
from tinytrain.errors import BoardError


def merged(regions: list[Region]) -> list[tuple[int, int]]:
    """The ranges that regions open, joined where they touch."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(r for region in regions for r in region.covered()):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
        else:
            ranges.append((start, end))
    return ranges


@pytest.mark.parametrize("origin", [0, 0x2000_0000, 0x2000_8000])
def test_cover_opens_exactly_the_memory(origin: int) -> None:
    rng = random.Random(0)
    sizes = [32, 64, 224, 256, 4096, 200_000, 264 * 1024, 320 * 1024, 4 << 20]
    for size in sizes + [32 * rng.randrange(1, 1 << 17) for _ in range(300)]:
        memory = Memory(origin, size)
        regions = cover(memory)
        assert merged(regions) == [(memory.origin, memory.end)], f"origin {origin:#x}, size {size}"
        for region in regions:
            assert region.size & (region.size - 1) == 0 and region.base % region.size == 0
            assert region.size >= 256 or region.disabled == 0


def test_sizes_in_kilobytes_fit_the_regions_of_every_core() -> None:
    rng = random.Random(1)
    for board in all_boards():
        for _ in range(100):
            sram = 1024 * rng.randrange(1, board.sram.size // 1024 + 1)
            flash = 1024 * rng.randrange(1, board.flash.size // 1024 + 1)
            assert len(mpu_words(board.narrowed(sram=sram, flash=flash))) <= V7M_REGIONS


def test_sizes_no_core_can_enforce_are_refused() -> None:
    with pytest.raises(BoardError, match="cannot be enforced to the byte"):
        mpu_words(load("mps2-an385").narrowed(sram=0x2A_AAA0, flash=0x15_5540))


def test_v8m_needs_one_region_per_memory() -> None:
    board = load("mps3-an547").narrowed(sram=100_000, flash=300_000)
    (flash_base, flash_limit), (sram_base, sram_limit) = mpu_words(board)
    assert flash_base & ~31 == board.flash.origin and (flash_limit | 31) + 1 == board.flash.end
    assert sram_base & ~31 == board.sram.origin and (sram_limit | 31) + 1 == board.sram.end
