# SPDX-License-Identifier: Apache-2.0
"""Trainings of one scheme under several seeds, one after another or in processes."""

from __future__ import annotations

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
    jobs: int = 1,
    checkpoint: Path | str | None = None,
    progress: Callback = lambda moment: None,
) -> FitReport:
    """Train a model on the host, with the bits a board would have.

    scheme:     or a function that makes one for the loaded graph
    overrides:  fields of the scheme that replace its own
    classes:    a new classifier of so many classes; by default the data decides
    head_start: also train the classifier alone for one epoch, for comparison
    jobs:       processes over which the seeds are spread
    checkpoint: a folder where every epoch's end is kept; a run that finds its file there goes on from it
    Errors: ModelError, DataError, SchemeError, OutputError. Ctrl-C: KeyboardInterrupt that says where it stopped.
    """
    if not seeds:
        raise DataError("a training needs a seed", fix="--seeds 1 or more")
    forward = load_model(model)
    spec = InputSpec.of(forward)
    loaded = data if isinstance(data, Dataset) else load_data(data, spec)
    task = make_task(forward, loaded, scheme, settings, overrides or {}, classes)
    head = _head_start(task, seeds[0], progress) if head_start else None
    runs = _run_all(task, seeds, jobs, checkpoint, progress)
    cache = {"bytes_per_sample": task.prefix.nbytes, "rows": task.prefix.rows, "of_rows": len(task.program.rows)}
    return FitReport(
        str(model), loaded.source, task.scheme.as_dict(), {**settings.as_dict(), "seeds": list(seeds)}, task.classes,
        len(task.test.y), runs, task.sram(), cache, head,
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
    task: Task, seeds: Sequence[int], jobs: int, checkpoint: Path | str | None, progress: Callback
) -> tuple[SeedRun, ...]:
    files = [Checkpoint.of(checkpoint, task.digest, seed) if checkpoint else None for seed in seeds]
    if jobs > 1 and len(seeds) > 1:
        return _in_processes(task, seeds, files, min(jobs, len(seeds)), progress)
    cache = PrefixCache(task.prefix, task.settings.cache)
    return tuple(_one(task, seed, cache, file, progress) for seed, file in zip(seeds, files, strict=True))


def _one(task: Task, seed: int, cache: PrefixCache, file: Checkpoint | None, progress: Callback) -> SeedRun:
    run = Run(task, seed, cache, file)
    try:
        return run.finish(progress)
    except KeyboardInterrupt:
        where = f"the training with seed {seed} stopped in epoch {len(run.state.epochs) + 1} of {task.settings.epochs}"
        kept = f"{file.path} keeps what was before: the same command goes on from there" if file else "nothing was kept"
        raise KeyboardInterrupt(f"{where}; {kept}") from None


def _in_processes(
    task: Task, seeds: Sequence[int], files: Sequence[Checkpoint | None], jobs: int, progress: Callback
) -> tuple[SeedRun, ...]:
    """One process per seed, `jobs` at a time; what they report comes back through a queue."""
    from joblib import Parallel, delayed

    limit = task.settings.cache // jobs
    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=_listen, args=(queue, progress))
        listener.start()
        try:
            pairs = zip(seeds, files, strict=True)
            each = (delayed(_in_worker)(task, seed, limit, file, queue) for seed, file in pairs)
            return tuple(Parallel(n_jobs=jobs)(each))
        except KeyboardInterrupt:
            folder = files[0].path.parent if files[0] else None
            kept = f"'{folder}' keeps every epoch's end: the same command goes on from there" if folder else ""
            raise KeyboardInterrupt(f"{len(seeds)} trainings stopped; {kept or 'nothing was kept'}") from None
        finally:
            queue.put(None)
            listener.join()


def _listen(queue: Any, progress: Callback) -> None:
    for moment in iter(queue.get, None):
        progress(moment)


def _in_worker(task: Task, seed: int, limit: int, file: Checkpoint | None, queue: Any) -> SeedRun:
    sent = [0.0]

    def report(moment: FitProgress) -> None:
        """A few times per second, and whatever ends something."""
        now = time.monotonic()
        if now - sent[0] > SECONDS_BETWEEN_REPORTS or moment.done == moment.total:
            sent[0] = now
            queue.put(moment)

    return _one(task, seed, PrefixCache(task.prefix, limit), file, report)
