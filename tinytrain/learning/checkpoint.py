# SPDX-License-Identifier: Apache-2.0
"""The state of a training at the end of an epoch, in a file: a run that was interrupted goes on with the same bits."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tinytrain.errors import DataError, OutputError
from tinytrain.host import Machine
from tinytrain.learning.report import FitEpoch
from tinytrain.program import Space

PERSISTENT = (Space.PARAMETERS, Space.MASTERS, Space.OPTIMIZER, Space.STATE)


@dataclass
class State:
    """How far a training is: steps done, what its epochs showed, and the seconds they took."""

    steps: int = 0
    before: float | None = None
    epochs: list[FitEpoch] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """path: an .npz file, written whole or not at all; digest: of the task that it belongs to."""

    path: Path
    digest: str

    @staticmethod
    def of(folder: Path | str, digest: str, seed: int) -> Checkpoint:
        """The file of a seed in a folder, which is made. Errors: OutputError."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder '{folder}' cannot be made", why=error.strerror or str(error)) from None
        return Checkpoint(folder / f"seed-{seed}.npz", digest)

    def save(self, machine: Machine, state: State) -> None:
        """Errors: OutputError."""
        facts = {"digest": self.digest, **asdict(state)}
        arrays = {"facts": np.array(json.dumps(facts))}
        arrays |= {str(space): machine.memory[space] for space in PERSISTENT}
        fresh = self.path.with_name(self.path.name + ".partial")
        try:
            with fresh.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            os.replace(fresh, self.path)
        except OSError as error:
            raise OutputError(f"'{self.path}' cannot be written", why=error.strerror or str(error)) from None

    def load(self, machine: Machine) -> State | None:
        """Put a saved state back, if there is one. Errors: DataError where it is another training's, or damaged."""
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                facts = json.loads(str(archive["facts"]))
                arrays = {space: archive[str(space)] for space in PERSISTENT}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            fix = "remove it: training starts over"
            raise DataError(f"'{self.path}' cannot be read", why=str(error), fix=fix) from None
        if facts.pop("digest") != self.digest:
            raise DataError(
                f"'{self.path}' is the state of another training", why="model, data, scheme or settings were others",
                fix="another --checkpoint folder, or remove the file",
            )  # fmt: skip
        for space, value in arrays.items():
            machine.memory[space][:] = value
        epochs = [FitEpoch(**epoch) for epoch in facts.pop("epochs")]
        return State(epochs=epochs, **facts)
