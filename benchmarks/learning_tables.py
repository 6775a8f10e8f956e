# SPDX-License-Identifier: Apache-2.0
"""The tables of experiments.py. A number that no stored run tells is left out: "-"."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from common import table
from learning_runs import Experiment, Store

# float gradients with latent float weights, measured outside this project
REFERENCES = {"flowers102/head": 82.5, "flowers102/49kb": 87.7, "flowers102/99kb": 89.3}
REFERENCES |= {"flowers102/99kb/no-qas": 72.8, "pets3/head": 91.7, "pets3/49kb": 92.8}


class Results:
    """Of all experiments by name: accuracies in percent, and bytes."""

    def __init__(self, experiments: Mapping[str, Experiment], store: Store) -> None:
        self.experiments, self.store = experiments, store

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The stored runs, if they are complete."""
        if name not in self.experiments:
            return []
        found = [self.store.load(self.experiments[name], seed) for seed in self.store.seeds]
        known = [document for document in found if document is not None]
        return known if len(known) == len(found) else []

    def accuracies(self, name: str) -> list[float]:
        return [100 * document["run"]["accuracy"] for document in self.runs(name)]

    def mean(self, name: str) -> float | None:
        values = self.accuracies(name)
        return fmean(values) if values else None

    def text(self, name: str) -> str:
        """Mean and standard deviation over the seeds."""
        values = self.accuracies(name)
        if len(values) < 2:
            return f"{values[0]:.1f}" if values else "-"
        return f"{fmean(values):.1f} ± {stdev(values):.1f}"

    def difference(self, name: str, other: str) -> float | None:
        mine, its = self.mean(name), self.mean(other)
        return None if mine is None or its is None else mine - its

    def sram(self, name: str, *spaces: str) -> int | None:
        runs = self.runs(name)
        return sum(runs[0]["sram"][space] for space in spaces or ("total",)) if runs else None

    def fact(self, name: str, key: str) -> str:
        runs = self.runs(name)
        return f"{runs[0][key]:,}" if runs else "-"


def tables(experiments: Mapping[str, Experiment], store: Store) -> str:
    results = Results(experiments, store)
    made = (schemes, packs, updates, gradients, optimizers)
    return "\n".join(each(results) for each in made)


def schemes(results: Results) -> str:
    rows = []
    for name in ("flowers102/head", "flowers102/49kb", "flowers102/99kb", "flowers102/99kb/no-qas", "pets3/head"):
        rows.append([
            name, results.text(name), results.text(f"{name}/float"),
            _points(results.difference(name, f"{name}/float")), f"{REFERENCES[name]:.1f}", _bytes(results.sram(name)),
        ])  # fmt: skip
    title = "### Schemes\n\nTest accuracy in percent, mean and standard deviation over the seeds.\n\n"
    columns = ("experiment", "integer", "float", "difference", "outside reference", "arena and what persists, bytes")
    return title + table(columns, rows)


def packs(results: Results) -> str:
    rows, differences = [], []
    for name in _bases(results):
        difference = results.difference(name, f"{name}/float")
        differences += [] if difference is None else [difference]
        rows.append([
            name, f"{results.fact(name, 'trained')} / {results.fact(name, 'evaluated')}",
            results.fact(name, "classes"), results.text(name), results.text(f"{name}/float"), _points(difference),
        ])  # fmt: skip
    columns = ("experiment", "training / test samples", "classes", "integer", "float", "difference")
    return "### Integer beside float\n\n" + table(columns, rows) + _summary("Integer minus float", differences)


def updates(results: Results) -> str:
    rows = []
    for data in ("flowers102", "pets3"):
        base = f"{data}/49kb"
        for update, name in (
            ("master", base),
            ("stochastic", f"{base}/stochastic"),
            ("truncate", f"{base}/truncate"),
        ):
            rows.append([
                base, update, results.text(name), _points(results.difference(name, base)),
                _bytes(results.sram(name, "masters")),
            ])  # fmt: skip
    columns = ("experiment", "update", "integer", "against master", "bytes of masters")
    return "### Updates below one integer step\n\n" + table(columns, rows)


def gradients(results: Results) -> str:
    rows, differences = [], []
    biases = [name for name in results.experiments if name.endswith("/biases")]
    for name in [*_bases(results), *biases]:
        eight = f"{name}/int8"
        difference = results.difference(eight, name)
        differences += [] if difference is None else [difference]
        wide, narrow = results.sram(name, "arena"), results.sram(eight, "arena")
        saved = None if wide is None or narrow is None else wide - narrow
        rows.append([
            name, results.text(name), results.text(eight), _points(difference), _bytes(wide), _bytes(narrow),
            _bytes(saved),
        ])  # fmt: skip
    columns = ("experiment", "int16", "int8", "difference", "arena int16", "arena int8", "bytes saved")
    return "### Gradients of 16 and of 8 bits\n\n" + table(columns, rows) + _summary("int8 minus int16", differences)


def optimizers(results: Results) -> str:
    rows = []
    ruled = [each.data for each in results.experiments.values() if each.overrides.get("optimizer")]
    for data in dict.fromkeys(ruled):
        base = f"{data}/49kb"
        plain = results.sram(base, "optimizer")
        for name, experiment in results.experiments.items():
            rule = experiment.overrides.get("optimizer")
            if name != base and (experiment.data != data or rule is None):
                continue
            size = results.sram(name, "optimizer")
            state = None if size is None or plain is None else size - plain
            kind = "sgd" if rule is None else ", ".join(f"{key} {value}" for key, value in rule.items())
            rows.append([base, kind, f"{experiment.lr:g}", results.text(name), _bytes(state)])
    return "### Optimizers\n\n" + table(("experiment", "rule", "rate", "integer", "bytes of state"), rows)


def rates_table(experiments: list[Experiment], store: Store) -> str:
    """What --rates found: final accuracy and loss of one seed."""
    rows = []
    for experiment in experiments:
        path = store.path(experiment, 0)
        found = store.load(experiment, 0) if path.is_file() else None
        if found:
            last = found["run"]["epochs"][-1]
            rows.append([experiment.name, f"{experiment.lr:g}", f"{100 * last['accuracy']:.1f}", f"{last['loss']:.4f}"])
    return table(("experiment", "rate", "accuracy", "training loss"), rows)


def _bases(results: Results) -> list[str]:
    """One experiment per data pack: the 49 KB scheme, or every weight of a small network."""
    return [name for name in results.experiments if name.count("/") == 1 and name.endswith(("/49kb", "/all"))]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _bytes(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _summary(what: str, differences: list[float]) -> str:
    if not differences:
        return ""
    return f"\n{what}: mean {fmean(differences):+.2f}, worst {min(differences):+.2f} points over {len(differences)}.\n"
