# SPDX-License-Identifier: Apache-2.0
"""Trains an exported firmware on its emulated board while the host repeats every step, and compares."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytrain import emulate
from tinytrain.data import Dataset, InputSpec, check_data, load_data
from tinytrain.emulate.protocol import Operation
from tinytrain.errors import DataError, EmulationError
from tinytrain.planner import Plan
from tinytrain.program import Program
from tinytrain.session.commands import Session, prepare
from tinytrain.session.profile import profile_of
from tinytrain.session.replay import Replay, replay
from tinytrain.session.report import EpochReport, RunReport, end_losses
from tinytrain.session.schedule import Step, training_steps

DEFAULT_EPOCHS = 3
RATE_PER_SAMPLE = 0.005  # the default learning rate is this times the batch: a larger batch takes larger steps
WINDOW = 8  # samples per line of progress
LOSS_STEPS = 32  # the first and the last loss are means over about so many steps


@dataclass(frozen=True)
class RunProgress:
    """Where a run is. stage: "build", "evaluate", "train", "count" or "replay"; loss, accuracy: of late.

    epoch: the one in training, of `epochs`.
    """

    stage: str
    done: int
    total: int
    loss: float | None = None
    accuracy: float | None = None
    epoch: int | None = None
    epochs: int | None = None


Callback = Callable[[RunProgress], None]


@dataclass(frozen=True)
class ExportFacts:
    """What export.json says of a firmware folder. labels: how many there are; 0 where none are needed."""

    folder: Path
    model: str
    input: InputSpec
    labels: int
    needs_target: bool
    accumulates: bool
    planned_sram: int | None

    @staticmethod
    def read(folder: Path | str) -> ExportFacts:
        folder = Path(folder)
        try:
            facts: dict[str, Any] = json.loads((folder / "export.json").read_text())
            accumulates = any(row["phase"] == "apply" for row in facts["rows"])
            planned = facts.get("sram", {}).get("total")
            spec = InputSpec.from_dict(facts["input"])
            labels, needs_target = int(facts["labels"]), bool(facts["needs_target"])
            return ExportFacts(folder, facts["model"], spec, labels, needs_target, accumulates, planned)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise EmulationError(
                f"'{folder}' is not an exported firmware folder", why=f"export.json: {why}",
                fix="tinytrain export PLAN -o FOLDER",
            ) from None  # fmt: skip


def run_training(
    folder: Path | str,
    data: Dataset | Path | str,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch: int = 1,
    lr: float | None = None,
    seed: int = 0,
    eval_count: int | None = None,
    host: bool = True,
    count: bool = True,
    schedule: str = "cosine",
    flip: bool = False,
    profile: bool = False,
    progress: Callback = lambda moment: None,
) -> RunReport:
    """Train `folder` on its board with `data`.

    epochs, steps: how long; with both, whichever ends first (default: 3 epochs)
    batch:      samples per parameter update; more than 1 needs a plan that accumulates
    lr:         of the mean gradient of a batch (default: 0.005 times the batch)
    eval_count: test samples for the accuracy before and after (default: all); an auto-encoder has no accuracy
    host:       repeat the run on the host and compare
    count:      count instructions, in a second short run
    flip:       mirror images at random
    profile:    say where the instructions go, by kernel and by layer; needs `count`
    Errors: DataError, EmulationError, FirmwareFault, BudgetError, ToolMissing.
    """
    started = time.monotonic()
    facts = ExportFacts.read(folder)
    _check_answers(facts)
    if profile and not count:
        raise DataError("a profile needs counted instructions", fix="leave --no-count out")
    if not isinstance(data, Dataset):
        data = load_data(data, facts.input, labelled=facts.labels > 0)
    check_data(data, facts.input, facts.labels or None)
    _check_batch(facts, batch)
    rate = RATE_PER_SAMPLE * batch if lr is None else lr
    duration = (DEFAULT_EPOCHS if epochs is None and steps is None else epochs, steps)
    planned = training_steps(
        data.y_train,
        epochs=duration[0],
        steps=duration[1],
        batch=batch,
        lr=rate,
        seed=seed,
        schedule=schedule,
        flip=flip,
    )
    session = prepare(
        data, facts.input, planned, eval_count=eval_count if facts.labels else 0, seed=seed,
        accumulates=facts.accumulates,
    )  # fmt: skip
    program = Plan.load(facts.folder / "plan.json").program() if host else None
    progress(RunProgress("build", 0, 1))
    elf = emulate.build(facts.folder)
    progress(RunProgress("build", 1, 1))
    board, counted, mine = _carry_out(facts, session, planned, program, count, progress)
    return RunReport(
        board=board.board, model=facts.model, steps=len(planned), batch=batch, learning_rate=rate, schedule=schedule,
        seed=seed, evaluated=session.evaluated, **_learned(facts, session, board), instructions=counted,
        linked=emulate.sections(elf).sram, flash=emulate.sections(elf).flash, planned=facts.planned_sram,
        arena_used=board.final.arena_used, stack_used=board.final.stack_used,
        handler_stack_used=board.final.handler_stack_used,
        parameters_crc32=board.final.parameters_crc32, host_parameters_crc32=mine.crcs[-1] if mine else None,
        difference=mine.difference(board) if mine else None, seconds=time.monotonic() - started,
        profile=profile_of(facts.folder, counted) if profile and counted else None,
    )  # fmt: skip


def _check_answers(facts: ExportFacts) -> None:
    if facts.needs_target:
        raise DataError(
            "this firmware is trained on given targets, which a run cannot send", where=str(facts.folder),
            why="commands name a sample and a label",
            fix="train it in Python with Machine.train_step(sample, target=...), or on a device with "
            "tinytrain_train_target",
        )  # fmt: skip


def _check_batch(facts: ExportFacts, batch: int) -> None:
    if batch > 1 and not facts.accumulates:
        raise DataError(
            f"this firmware cannot train in batches of {batch}", where=str(facts.folder),
            why="it updates its parameters after every sample; accumulating gradients takes SRAM that was not planned",
            fix="tinytrain plan ... --accumulate, and export again; or leave --batch out",
        )  # fmt: skip


def _carry_out(
    facts: ExportFacts,
    session: Session,
    steps: Sequence[Step],
    program: Program | None,
    count: bool,
    progress: Callback,
) -> tuple[emulate.BoardReport, emulate.Instructions | None, Replay | None]:
    """The board in this thread, the host's replay beside it; whatever goes wrong, or Ctrl-C, ends both."""
    stopped = threading.Event()
    seen = [0]
    with ThreadPoolExecutor(1, "replay") as pool:
        future: Future[Replay] | None = None
        try:
            if program is not None:
                future = pool.submit(
                    replay, program, session.stream, session.samples, progress_every=WINDOW,
                    progress=lambda done: seen.__setitem__(0, done), stop=stopped.is_set,
                )  # fmt: skip
            board = emulate.run(
                facts.folder, session.stream, session.samples, progress_every=WINDOW,
                progress=_board_progress(facts, session, progress, future),
            )  # fmt: skip
            counted = _count(facts, session, steps, progress) if count else None
            return board, counted, _wait(future, seen, session, progress) if future else None
        except BaseException:
            stopped.set()
            raise


def _board_progress(
    facts: ExportFacts, session: Session, progress: Callback, host: Future[Replay] | None
) -> Callable[[emulate.Progress], None]:
    """From a pass of the board to the whole run: training counts over all epochs. A host that failed ends the run."""
    passes = session.stream.passes
    total = sum(samples for kind, samples in passes if kind == "train")

    def report(seen: emulate.Progress) -> None:
        if host is not None and host.done():
            host.result()
        if seen.kind != "train":
            progress(RunProgress("evaluate", seen.done, seen.total, accuracy=seen.accuracy))
            return
        earlier = [samples for kind, samples in passes[: seen.number] if kind == "train"]
        accuracy = seen.window.correct / max(seen.window.samples, 1) if facts.labels else None
        done, epoch = sum(earlier) + seen.done, len(earlier) + 1
        progress(RunProgress("train", done, total, seen.window.loss, accuracy, epoch, session.epochs))

    return report


def _count(facts: ExportFacts, session: Session, steps: Sequence[Step], progress: Callback) -> emulate.Instructions:
    """Instructions of one inference and one step, at the highest rate of the run."""
    progress(RunProgress("count", 0, 1))
    index = next(a for operation, a, _ in session.stream.records if operation == Operation.TRAIN)
    rate = max(step.rate for step in steps)
    counted = emulate.count_instructions(facts.folder, session.samples[index], steps[0].label, learning_rate=rate)
    progress(RunProgress("count", 1, 1))
    return counted


def _wait(future: Future[Replay], seen: list[int], session: Session, progress: Callback) -> Replay:
    total = sum(samples for _, samples in session.stream.passes)
    while True:
        try:
            result = future.result(timeout=0.2)
        except NotYet:
            progress(RunProgress("replay", seen[0], total))
        else:
            progress(RunProgress("replay", total, total))
            return result


def _learned(facts: ExportFacts, session: Session, board: emulate.BoardReport) -> dict[str, Any]:
    """Accuracies, losses and epochs, from the passes the board reported."""
    tests = [each.accuracy for each in board.passes if each.kind == "eval"]
    training = [each for each in board.passes if each.kind == "train"]
    epochs = tuple(
        EpochReport(each.samples, each.loss, each.accuracy if facts.labels else None, marks.parameters_crc32)
        for each, marks in zip(training, board.marks, strict=False)
    )
    total = sum(each.samples for each in training)
    first, last = end_losses(training, min(LOSS_STEPS, max(1, total // 4)))
    return {
        "accuracy_before": tests[0] if session.evaluated else None,
        "accuracy_after": tests[-1] if session.evaluated else None,
        "loss_first": first, "loss_last": last, "epochs": epochs,
    }  # fmt: skip
