# SPDX-License-Identifier: Apache-2.0
"""Runs of experiments.py: where models and data come from, how a run is carried out, and how its result is stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common import ROOT, SHARED

from tinytrain.augment import Augment
from tinytrain.data import Dataset, InputSpec, load_data
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.host.prefix import PrefixCache
from tinytrain.learning import FitProgress, SeedRun, Settings
from tinytrain.learning.checkpoint import Checkpoint
from tinytrain.learning.reference import FrozenParts, run_reference
from tinytrain.learning.run import Run
from tinytrain.learning.task import Task, make_task
from tinytrain.train import LayerUpdate, Scheme, all_weights, load_scheme, parse_fields, trainable_layers

RESULTS = ROOT / "benchmarks" / "results" / "learning"
BUILD = ROOT / "build" / "experiments"
MODELS = SHARED / "models" / "mcu_models"
PACKS = ("wrist", "ecg", "digits")  # written by examples/personalize/packs.py
SECONDS_BETWEEN_LINES = 20.0


@dataclass(frozen=True)
class Experiment:
    """One configuration; its runs differ by their seed.

    data:   a pack of the shared data sets, or one of PACKS; model: a file of the shared models, or one of PACKS
    scheme: "head", "all", "biases" (of every layer), or a key of the published schemes, "49kb"
    lr:     of a batch's mean gradient; overrides: of the scheme's fields
    kind:   "integer", or "float": the same training in float32
    """

    name: str
    data: str
    model: str
    scheme: str
    lr: float
    augment: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "integer"
    epochs: int = 12
    batch: int = 8
    schedule: str = "cosine"

    def settings(self) -> Settings:
        return Settings(self.epochs, self.batch, self.lr, self.schedule, Augment.parse(self.augment))


class Store:
    """Finished runs, one JSON file each. fresh: forget what is there; keeps: False holds them in build/ for now."""

    def __init__(self, seeds: int, fresh: bool = False, keeps: bool = True) -> None:
        self.seeds = range(seeds)
        self.folder = RESULTS if keeps else BUILD / "rates"
        self.fresh = fresh or not keeps

    def path(self, experiment: Experiment, seed: int) -> Path:
        return self.folder / f"{experiment.name.replace('/', '.')}.seed{seed}.json"

    def load(self, experiment: Experiment, seed: int) -> dict[str, Any] | None:
        """The result of a run of this very experiment."""
        path = self.path(experiment, seed)
        if not path.is_file():
            return None
        document = json.loads(path.read_text())
        return document if document["experiment"] == json.loads(json.dumps(asdict(experiment))) else None

    def save(self, experiment: Experiment, task: Task, run: SeedRun) -> None:
        document = {
            "experiment": asdict(experiment), "seed": run.seed, "run": run.as_dict(), "sram": task.sram(),
            "classes": task.classes, "trained": len(task.train.y), "evaluated": len(task.test.y),
        }  # fmt: skip
        self._write(experiment, run.seed, document)

    def _write(self, experiment: Experiment, seed: int, document: Mapping[str, Any]) -> None:
        path = self.path(experiment, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".partial")
        fresh.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(fresh, path)

    def account(self, experiment: Experiment) -> None:
        """Bring the bytes of stored runs up to date: the arena depends on kernels' scratch, learning does not."""
        found = {seed: self.load(experiment, seed) for seed in self.seeds}
        stored = {seed: document for seed, document in found.items() if document is not None}
        if not stored:
            return
        prepare(experiment.data)
        sram = task_of(experiment).sram()
        for seed, document in stored.items():
            if document["sram"] != sram:
                self._write(experiment, seed, {**document, "sram": sram})

    def missing(self, experiment: Experiment) -> list[int]:
        return [seed for seed in self.seeds if self.fresh or self.load(experiment, seed) is None]

    def state(self, experiment: Experiment) -> str:
        done = len(self.seeds) - len(self.missing(experiment))
        return f"{done} of {len(self.seeds)} runs"


def run_all(experiments: list[Experiment], store: Store, jobs: int) -> None:
    """Carry out what is not stored yet; a process takes a whole experiment, whose seeds share what is frozen."""
    from joblib import Parallel, delayed

    work = [(each, missing) for each in experiments if (missing := store.missing(each))]
    for name in {each.data for each, _ in work}:
        prepare(name)
    started = time.monotonic()
    calls = (delayed(run_experiment)(each, seeds, store, jobs) for each, seeds in work)
    for done, name in enumerate(Parallel(n_jobs=jobs, return_as="generator_unordered")(calls), 1):
        minutes = (time.monotonic() - started) / 60
        print(f"{done} of {len(work)} experiments after {minutes:.1f} minutes: {name}", file=sys.stderr, flush=True)


def run_experiment(experiment: Experiment, seeds: list[int], store: Store, jobs: int) -> str:
    """The runs of some seeds, stored one by one."""
    task = task_of(experiment)
    task = replace(task, settings=replace(task.settings, cache=task.settings.cache // jobs))
    cache = PrefixCache(task.prefix, task.settings.cache)
    parts = FrozenParts(task) if experiment.kind == "float" else None
    for seed in seeds:
        report = progress_line(experiment.name)
        if parts is not None:
            run = run_reference(task, seed, parts, report)
        else:
            file = Checkpoint.of(BUILD / "states" / task.digest[:16], task.digest, seed)
            run = Run(task, seed, cache, file).finish(report)
            file.path.unlink()
        store.save(experiment, task, run)
    return experiment.name


def task_of(experiment: Experiment) -> Task:
    path = model_of(experiment)
    forward = load_model(path)
    data = data_of(experiment.data, InputSpec.of(forward))
    scheme = scheme_of(experiment, forward).but(**parse_fields(experiment.overrides))
    if experiment.model in PACKS:
        scheme = scheme.but(classes=data.class_count)  # a new classifier, even where the old one has as many classes
    return make_task(forward, data, scheme, experiment.settings())


def scheme_of(experiment: Experiment, forward: Graph) -> Scheme:
    if experiment.scheme == "head":
        return Scheme()
    if experiment.scheme == "all":
        return all_weights(forward)
    if experiment.scheme == "biases":
        return Scheme({node.name: LayerUpdate(bias=True) for node in trainable_layers(forward)})
    return load_scheme(MODELS / "sparse_update_schemes.json", forward, f"{experiment.model}/{experiment.scheme}")


def model_of(experiment: Experiment) -> Path:
    if experiment.model in PACKS:
        return next((BUILD / "packs" / experiment.model).glob("model.*"))
    return MODELS / f"{experiment.model}.onnx"


def data_of(name: str, spec: InputSpec) -> Dataset:
    return load_data(BUILD / "packs" / name / "data.npz" if name in PACKS else pack_path(name), spec)


def pack_path(name: str) -> Path:
    path = SHARED / "datasets" / f"{name}.npz"
    if not path.is_file():
        sys.exit(f"{path} is not there: the experiments need the shared data beside the checkout")
    return path


def prepare(name: str) -> None:
    """Make the data that is made from others, if it is not there yet."""
    if name in PACKS and not (BUILD / "packs" / name / "data.npz").is_file():
        script = ROOT / "examples" / "personalize" / "packs.py"
        subprocess.run([sys.executable, script, "-o", BUILD / "packs"], check=True)


def progress_line(name: str) -> Callable[[FitProgress], None]:
    """A line on stderr now and then."""
    last = [time.monotonic()]

    def report(moment: FitProgress) -> None:
        now = time.monotonic()
        if now - last[0] < SECONDS_BETWEEN_LINES:
            return
        last[0] = now
        loss = "" if moment.loss is None else f", loss {moment.loss:.3f}"
        accuracy = "" if moment.accuracy is None else f", test accuracy {moment.accuracy:.1%}"
        where = f"{name} seed {moment.seed}: epoch {moment.epoch} of {moment.epochs}"
        print(f"  {where}{loss}{accuracy}", file=sys.stderr, flush=True)

    return report
