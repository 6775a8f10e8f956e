# SPDX-License-Identifier: Apache-2.0
"""One exception family. Each message says what was refused, where, why, and what to do about it (exit code 2)."""

from __future__ import annotations


class TinytrainError(Exception):
    """Base of everything tinytrain refuses.

    what:  the refusal in one line, naming the offending object
    where: file, node or tensor
    why:   the reason, in the user's terms
    fix:   what to do next, a command where there is one
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("in ", self.where), ("why", self.why), ("fix", self.fix)):
            if text:
                lines.append(f"  {label}  {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The same four parts for `--json`."""
        return {"error": self.what, "where": self.where, "why": self.why, "fix": self.fix}


class ModelError(TinytrainError):
    """A model file that cannot be read, or holds something that is not supported."""


class GraphError(TinytrainError):
    """A graph that breaks a rule of the IR; from a model file this is reported as a ModelError."""


class DataError(TinytrainError):
    """Data that does not fit the model: shape, dtype, labels."""


class SchemeError(TinytrainError):
    """A scheme that names layers or slices the model does not have, or that cannot be trained."""


class BudgetError(TinytrainError):
    """A memory budget that cannot be met: says by how many bytes and at which node."""


class BoardError(TinytrainError):
    """An unknown board, or a board description that does not hold together."""


class ToolMissing(TinytrainError):
    """A program this step needs (compiler, emulator) is not installed: carries the install command."""


class OutputError(TinytrainError):
    """The output cannot be written: it exists already, or the folder is not writable."""


class EmulationError(TinytrainError):
    """The emulated board did not do what the protocol says."""


class FirmwareFault(EmulationError):
    """The firmware touched memory outside its limits, or overflowed its stack: carries the address."""
