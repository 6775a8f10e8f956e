# SPDX-License-Identifier: Apache-2.0
"""Trainings of one scheme under several seeds, one after another or in processes."""

from __future__ import annotations

import functools
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinytrain.data import Dataset, InputSpec, load_data
from tinytrain.errors import DataError
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.host.prefix import PrefixCache
from tinytrain.learning.checkpoint import Checkpoint
from tinytrain.learning.reference import FrozenParts, check_reference, run_reference
from tinytrain.learning.report import FitReport, SeedRun
from tinytrain.learning.run import Callback, FitProgress, Run
from tinytrain.learning.task import Settings, Task, compiled, make_task
from tinytrain.train import Scheme

SECONDS_BETWEEN_REPORTS = 0.2  # of a worker process


def fit(
    model: Path | str,
    data: Dataset | Path | str,
    scheme: Scheme | Callable[[Graph], Scheme],
    settings: Settings,
    *,
    seeds: Sequence[int] = (0,),
    overrides: Mapping[str, Any] | None = None,
    classes: int | None = None,
    head_start: bool = True,
    float_reference: bool = False,
    jobs: int = 1,
    checkpoint: Path | str | None = None,
    progress: Callback = lambda moment: None,
) -> FitReport:
    """Train a model on the host, with the bits a board would have.

    scheme:     or a function that makes one for the loaded graph
    overrides:  fields of the scheme that replace its own
    classes:    a new classifier of so many classes; by default the data decides
    head_start: also train the classifier alone for one epoch, for comparison
    float_reference: also train every seed in float, with torch
    jobs:       processes over which the seeds are spread
    checkpoint: a folder where every epoch's end is kept; a run that finds its file there goes on from it
    Errors: ModelError, DataError, SchemeError, OutputError, ToolMissing.
    Ctrl-C: KeyboardInterrupt that says where it stopped.
    """
    if not seeds:
        raise DataError("a training needs a seed", fix="--seeds 1 or more")
    forward = load_model(model)
    spec = InputSpec.of(forward)
    chosen = (scheme(forward) if callable(scheme) else scheme).but(**(overrides or {}))
    chosen = chosen.but(classes=classes or chosen.classes)
    labelled = chosen.loss.labels(chosen.classes or 2) > 0
    loaded = data if isinstance(data, Dataset) else load_data(data, spec, labelled=labelled)
    task = make_task(forward, loaded, chosen, settings)
    if float_reference:
        check_reference(task)
    head = _head_start(task, seeds[0], progress) if head_start else None
    files = [Checkpoint.of(checkpoint, task.digest, seed) if checkpoint else None for seed in seeds]
    runs = _run_all(task, seeds, jobs, files, progress)
    floating = _run_all(task, seeds, jobs, None, progress) if float_reference else ()
    cache = {"bytes_per_sample": task.prefix.nbytes, "rows": task.prefix.rows, "of_rows": len(task.program.rows)}
    return FitReport(
        str(model), loaded.source, task.scheme.as_dict(), {**settings.as_dict(), "seeds": list(seeds)}, task.classes,
        len(task.test.y) if labelled else 0, runs, task.sram(), cache, head, floating,
    )  # fmt: skip


def _head_start(task: Task, seed: int, progress: Callback) -> float | None:
    """Test accuracy after one epoch in which the classifier alone is trained; all else is the same."""
    scheme, settings = task.scheme.but(layers={}), replace(task.settings, epochs=1)
    program, prefix = compiled(task.forward, scheme, task.exponents)
    alone = replace(task, scheme=scheme, program=program, prefix=prefix, settings=settings)

    def report(moment: FitProgress) -> None:
        progress(replace(moment, stage="head"))

    return Run(alone, seed, PrefixCache(prefix, settings.cache)).finish(report).accuracy


def _run_all(
    task: Task, seeds: Sequence[int], jobs: int, files: Sequence[Checkpoint | None] | None, progress: Callback
) -> tuple[SeedRun, ...]:
    """A run per seed; files: where its states are kept, if anywhere. Without files: the float references."""
    jobs = min(jobs, len(seeds))
    limited = replace(task, settings=replace(task.settings, cache=task.settings.cache // jobs))
    works: list[Callable[[Callback], SeedRun]]
    if files is None:
        parts = FrozenParts(limited)
        works = [functools.partial(run_reference, limited, seed, parts) for seed in seeds]
    else:
        cache = PrefixCache(task.prefix, limited.settings.cache)
        works = [functools.partial(_one, task, seed, cache, file) for seed, file in zip(seeds, files, strict=True)]
    if jobs == 1:
        return tuple(work(progress) for work in works)
    folder = next((file.path.parent for file in files or () if file), None)
    return _in_processes(works, jobs, folder, progress)


def _one(task: Task, seed: int, cache: PrefixCache, file: Checkpoint | None, progress: Callback) -> SeedRun:
    run = Run(task, seed, cache, file)
    try:
        return run.finish(progress)
    except KeyboardInterrupt:
        where = f"the training with seed {seed} stopped in epoch {len(run.state.epochs) + 1} of {task.settings.epochs}"
        kept = f"{file.path} keeps what was before: the same command goes on from there" if file else "nothing was kept"
        raise KeyboardInterrupt(f"{where}; {kept}") from None


def _in_processes(
    works: Sequence[Callable[[Callback], SeedRun]], jobs: int, folder: Path | None, progress: Callback
) -> tuple[SeedRun, ...]:
    """`jobs` works at a time, each in a process; what they report comes back through a queue."""
    from joblib import Parallel, delayed

    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=_listen, args=(queue, progress))
        listener.start()
        try:
            return tuple(Parallel(n_jobs=jobs)(delayed(_in_worker)(work, queue) for work in works))
        except KeyboardInterrupt:
            kept = f"'{folder}' keeps every epoch's end: the same command goes on from there"
            where = f"{len(works)} trainings in {jobs} processes stopped"
            raise KeyboardInterrupt(f"{where}; {kept if folder else 'nothing was kept'}") from None
        finally:
            queue.put(None)
            listener.join()


def _listen(queue: Any, progress: Callback) -> None:
    for moment in iter(queue.get, None):
        progress(moment)


def _in_worker(work: Callable[[Callback], SeedRun], queue: Any) -> SeedRun:
    sent = [0.0]

    def report(moment: FitProgress) -> None:
        """A few times per second, and whatever ends something."""
        now = time.monotonic()
        if now - sent[0] > SECONDS_BETWEEN_REPORTS or moment.done == moment.total:
            sent[0] = now
            queue.put(moment)

    return work(report)
