# SPDX-License-Identifier: Apache-2.0
"""What the examples share: a device that learns a new user from a few samples, and the table of what came of it.

An example splits its data into what the base model knows and the new users (or loads, or words). Every new user is
learned by a fresh device: the base model, trained for a few epochs on the samples the user has shown and, against
forgetting, on a few stored samples of the base data per class (replay). The host runtime computes what the board would,
to the bit; one case of each example is also exported and run on its emulated board.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tinytrain
from tinytrain.data import Dataset, InputSpec, gather_samples
from tinytrain.errors import TinytrainError
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.session.schedule import training_steps
from tinytrain.train import Scheme

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = ROOT.parent / "shared" / "data"
BUILD = ROOT / "build" / "personalize"
PAGE = ROOT / "docs" / "personalization.md"
BOARD_TESTS = 60  # test samples a board evaluates, before and after


@dataclass(frozen=True)
class Samples:
    """x: float32 [N, ...], as the model takes it; y: int64 [N]; origin: str [N], who or what each comes from."""

    x: np.ndarray
    y: np.ndarray
    origin: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: np.ndarray) -> Samples:
        """Those at indices, or where a mask is true."""
        return Samples(self.x[indices], self.y[indices], self.origin[indices])

    def __add__(self, other: Samples) -> Samples:
        pairs = ((self.x, other.x), (self.y, other.y), (self.origin, other.origin))
        return Samples(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Case:
    """A new user: the samples they show the device, and others of theirs it is tested on."""

    name: str
    shown: Samples
    tested: Samples


@dataclass(frozen=True)
class Split:
    """A base model's data and the cases that are new to it.

    held:   base data that is in no training
    source: the base model's file, where it is not trained here
    """

    name: str
    base: Samples
    held: Samples
    cases: list[Case]
    source: Path | None = None


@dataclass(frozen=True)
class Learning:
    """How a device learns. replay: stored samples of the base data per class, seen along with the new ones."""

    epochs: int
    lr: float
    replay: int


@dataclass(frozen=True)
class Example:
    """One kind of signal.

    files: of the data folder
    load:  data folder -> whatever `splits` takes
    splits: (loaded, seed) -> splits
    model: (build folder, split, seed) -> int8 model file
    scheme: what is trained
    board_epochs: of the run on the emulated board, if fewer; it takes far longer than on the host
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    board: str
    sram: str
    learning: Learning
    files: tuple[str, ...]
    load: Callable[[Path], Any]
    splits: Callable[[Any, int], list[Split]]
    model: Callable[[Path, Split, int], Path]
    scheme: Callable[[Graph], Scheme]
    board_epochs: int | None = None


def some_of_each_class(y: np.ndarray, count: int, rng: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """Indices of `count` random samples of each class, but of at most this share of the class."""
    chosen = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
    return np.concatenate([each[: min(count, int(share * len(each)))] for each in chosen])


class Device:
    """The base model on a board, in the host runtime: the same bits."""

    def __init__(self, example: Example, model: Path, known: Samples) -> None:
        """known: base data, on which the plan measures the first exponents."""
        graph = tinytrain.load(model)
        self.spec = InputSpec.of(graph)
        data = Dataset(known.x, known.y, known.x, known.y, example.class_names, "the base model's data")
        self.plan = tinytrain.plan(
            model, board=example.board, sram=example.sram, data=data, scheme=example.scheme(graph)
        )
        self.machine = Machine(self.plan.program())

    def reset(self) -> None:
        """As it left the factory."""
        self.machine.reset()

    def learn(self, samples: Samples, learning: Learning, seed: int) -> int:
        """Train on all samples, starting from the factory state; returns the number of steps."""
        self.reset()
        self.machine.set_seed(seed)
        inputs = gather_samples(samples.x, np.arange(len(samples)), self.spec)
        steps = training_steps(samples.y, epochs=learning.epochs, lr=learning.lr, seed=seed)
        for step in steps:
            self.machine.set_learning_rate(step.update_rate, step.batch)
            self.machine.train_step(inputs[step.sample], step.label)
        return len(steps)

    def accuracy(self, samples: Samples) -> float:
        inputs = gather_samples(samples.x, np.arange(len(samples)), self.spec)
        right = [int(np.argmax(self.machine.infer(x))) == y for x, y in zip(inputs, samples.y)]
        return float(np.mean(right))


# --- one example ---


def measure(
    example: Example, data: Path, build: Path, seeds: int, board: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Every case with every seed, and the first one on the board. The document --json prints."""
    loaded = example.load(data)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    device = on_board = None
    for seed in range(seeds):
        for split in example.splits(loaded, seed):
            say(f"{example.name}, seed {seed}: the base model {split.name}")
            device = Device(example, example.model(build, split, seed), split.base)
            held = device.accuracy(split.held)
            for case in split.cases:
                say(f"{example.name}, seed {seed}: {case.name}")
                rows.setdefault((split.name, case.name), []).append(
                    _learn_case(device, example, split, case, held, seed)
                )
            if board and on_board is None:
                on_board = run_on_board(device, example, split, build / f"{example.name}-firmware")
    assert device is not None
    cases = [{"base": base, "case": name, **_mean(runs)} for (base, name), runs in rows.items()]
    return {
        "example": example.name, "board": example.board, "seeds": seeds, "epochs": example.learning.epochs,
        "lr": example.learning.lr, "replay_per_class": example.learning.replay, "cases": cases, "mean": _mean(cases),
        "sram": device.plan.sram.as_dict(), "macs": device.plan.macs(), "on_board": on_board,
    }  # fmt: skip


FIGURES = (
    "shown", "tested", "steps", "new_before", "new_after", "new_after_alone", "old_before", "old_after",
    "old_after_alone",
)  # fmt: skip


def _mean(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: float(np.mean([run[key] for run in runs])) for key in FIGURES}


def _learn_case(device: Device, example: Example, split: Split, case: Case, held: float, seed: int) -> dict[str, Any]:
    """FIGURES of one case: accuracies on the new samples and on the old ones; `alone` is without replay."""
    device.reset()
    before = device.accuracy(case.tested)
    device.learn(case.shown, example.learning, seed)
    alone = device.accuracy(case.tested), device.accuracy(split.held)
    steps = device.learn(training_samples(example, split, case, seed), example.learning, seed)
    return {
        "shown": len(case.shown), "tested": len(case.tested), "steps": steps, "new_before": before,
        "new_after": device.accuracy(case.tested), "new_after_alone": alone[0], "old_before": held,
        "old_after": device.accuracy(split.held), "old_after_alone": alone[1],
    }  # fmt: skip


def training_samples(example: Example, split: Split, case: Case, seed: int) -> Samples:
    """What a device learns from: what the user shows, and the stored samples."""
    rng = np.random.default_rng(seed)
    return case.shown + split.base.take(some_of_each_class(split.base.y, example.learning.replay, rng))


def run_on_board(device: Device, example: Example, split: Split, folder: Path) -> dict[str, Any]:
    """The last case of the first split, seed 0: exported, emulated, and compared with the device here."""
    case, learning = split.cases[-1], example.learning
    learning = replace(learning, epochs=min(learning.epochs, example.board_epochs or learning.epochs))
    samples = training_samples(example, split, case, 0)
    shutil.rmtree(folder, ignore_errors=True)
    tinytrain.export(device.plan, folder)
    data = Dataset(samples.x, samples.y, case.tested.x, case.tested.y, example.class_names, case.name)
    report = tinytrain.run(folder, data, epochs=learning.epochs, lr=learning.lr, seed=0, eval_count=BOARD_TESTS)
    device.learn(samples, learning, 0)
    here = device.machine.parameters_crc32()
    if not report.identical or report.parameters_crc32 != here:
        sys.exit(f"{case.name}: the board's parameters differ from those of the host: {report.difference}")
    assert report.instructions is not None
    return {
        "case": case.name, "steps": report.steps, "sram_linked": report.linked, "flash": report.flash,
        "budget": device.plan.sram.budget, "before": report.accuracy_before, "after": report.accuracy_after,
        "tested": report.evaluated, "instructions_inference": report.instructions.inference,
        "instructions_step": report.instructions.train_step, "parameters_crc32": report.parameters_crc32,
    }  # fmt: skip


# --- the table ---


def as_text(example: Example, found: dict[str, Any]) -> str:
    """The Markdown of a measurement."""
    sys.path.append(str(ROOT / "benchmarks"))
    from common import table

    rows = []
    for base in dict.fromkeys(case["base"] for case in found["cases"]):
        cases = [case for case in found["cases"] if case["base"] == base]
        rows += [_row(case["case"], case) for case in cases]
        rows.append(_row(f"**mean**{f', {base}' if base else ''}", _mean(cases)))
    columns = (
        "new", "shown", "steps", "new before", "new after", "without replay", "old before", "old after",
        "without replay",
    )  # fmt: skip
    sram, macs, learning = found["sram"], found["macs"], example.learning
    persistent = sram["parameters"] + sram["masters"] + sram["optimizer"]
    text = (
        f"{found['board']}: {sram['total']:,} bytes of SRAM to train (arena {sram['arena']:,}; parameters, masters and "
        f"exponents {persistent:,}; stack {sram['stack']:,}); {macs['forward']:,} MACs forward, {macs['backward']:,} "
        f"backward. {learning.epochs} epochs, learning rate {learning.lr:g}, {learning.replay} stored samples per "
        f"class, mean over {found['seeds']} seeds.\n\n"
    )
    return text + table(columns, rows) + _board_text(found["on_board"])


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    accuracies = [f"{figures[key]:.1%}" for key in FIGURES[3:]]
    return [name, f"{figures['shown']:.0f}", f"{figures['steps']:,.0f}", *accuracies]


def _board_text(board: dict[str, Any] | None) -> str:
    if board is None:
        return ""
    return (
        f"\nOn the emulated board ({board['case']}, seed 0): {board['before']:.1%} before and {board['after']:.1%} "
        f"after {board['steps']:,} steps, of {board['tested']} test samples; parameters "
        f"{board['parameters_crc32']:08x}, on the host the same bits; {board['sram_linked']:,} of "
        f"{board['budget']:,} bytes of SRAM, {board['flash']:,} bytes of flash; "
        f"{board['instructions_inference']:,} instructions per inference, {board['instructions_step']:,} per "
        "training step.\n"
    )


# --- the command ---


def data_folder(folder: Path, files: tuple[str, ...]) -> Path:
    """The folder, if all the files are there."""
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        sys.exit(
            f"error: '{folder / missing[0]}' is not there\n"
            f"  fix  --data FOLDER, which holds datasets/ and models/ of the shared data packs ({', '.join(files)})"
        )
    return folder


def main(example: Example) -> None:
    """python examples/personalize/NAME.py [--json] [--write]"""
    parser = argparse.ArgumentParser(description=example.title)
    parser.add_argument("--data", type=Path, default=SHARED, help=f"folder of the data packs (default: {SHARED})")
    parser.add_argument("--build", type=Path, default=BUILD, help="where base models are kept")
    parser.add_argument("--seeds", type=int, default=3, help="runs per case (default: 3)")
    parser.add_argument("--no-board", action="store_true", help="leave out the run on the emulated board")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument(
        "--write", action="store_true", help="replace this example's section of docs/personalization.md"
    )
    options = parser.parse_args()

    def say(text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    folder = data_folder(options.data, example.files)
    try:
        found = measure(example, folder, options.build, options.seeds, not options.no_board, say)
    except TinytrainError as error:
        sys.exit(f"\n{error}")
    print(file=sys.stderr)
    text = as_text(example, found)
    if options.write:
        from common import publish

        publish(example.name, text, PAGE)
    elif options.json:
        print(json.dumps(found, indent=1))
    else:
        print(text)
