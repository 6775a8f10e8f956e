# SPDX-License-Identifier: Apache-2.0
"""The account of all bytes. A planned byte is a linked byte."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class SramLedger:
    """Bytes of SRAM by use. `statics` and `stack` belong to the runtime and the board's start-up code."""

    budget: int | None
    arena: int
    arena_lower_bound: int
    parameters: int
    masters: int
    optimizer: int
    statics: int
    stack: int

    @property
    def total(self) -> int:
        return self.arena + self.parameters + self.masters + self.optimizer + self.statics + self.stack

    def as_dict(self) -> dict[str, int | None]:
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True)
class FlashLedger:
    """Bytes of flash by use; `code` is null until a compiler has said. `store`: initial image of what SRAM keeps."""

    budget: int | None
    code: int | None
    constants: int
    store: int

    @property
    def total(self) -> int | None:
        return None if self.code is None else self.code + self.constants + self.store

    def as_dict(self) -> dict[str, int | None]:
        return {**asdict(self), "total": self.total}
