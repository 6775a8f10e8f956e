# SPDX-License-Identifier: Apache-2.0
"""How fast this machine runs training steps and inferences of mcunet-5fps, by scheme, and which kernels take the time.

    OMP_NUM_THREADS=1 python benchmarks/host_speed.py [--seconds S] [--kernels SCHEME] [SCHEME ...]

SCHEME: head, 49kb, 99kb, all (default: each). Rates are per second of processor time of one core, the best of several
short runs, so that other work on the machine disturbs them little. The share of a kernel is that of its rows, each
timed alone within training steps.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from common import ROOT, table

from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.host.machine import STEP
from tinytrain.memory import lay_out
from tinytrain.program import lower
from tinytrain.train import Scheme, all_weights, load_scheme, training_graph

DATA = ROOT / "examples" / "data"
CLASSES = 3
RATE = 0.003
RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("schemes", nargs="*", default=["head", "49kb", "99kb", "all"])
    parser.add_argument("--seconds", type=float, default=0.3, help=f"of one run; a rate is the best of {RUNS}")
    parser.add_argument("--kernels", default="49kb", help="the scheme whose kernels are listed")
    asked = parser.parse_args()
    forward = load_model(DATA / "mcunet-5fps.onnx")
    rows = [rates(name, machine_of(forward, name), asked.seconds) for name in asked.schemes]
    print(table(("scheme", "steps/s", "ms per step", "inferences/s", "ms per inference"), rows))
    print(table(("kernel", "rows", "ms per step", "share"), shares(machine_of(forward, asked.kernels), asked.seconds)))


def machine_of(forward: Graph, name: str) -> Machine:
    graph = training_graph(forward, scheme_of(forward, name).but(classes=CLASSES))
    machine = Machine(lower(graph, lay_out(graph)))
    machine.set_learning_rate(RATE)
    return machine


def scheme_of(forward: Graph, name: str) -> Scheme:
    if name == "head":
        return Scheme()
    if name == "all":
        return all_weights(forward)
    return load_scheme(DATA / "sparse_update_schemes.json", forward, f"mcunet-5fps/{name}")


def rates(name: str, machine: Machine, seconds: float) -> list[str]:
    samples = random_samples(machine)
    step = best_seconds(lambda i: machine.train_step(samples[i % len(samples)], i % CLASSES), seconds)
    inference = best_seconds(lambda i: machine.infer(samples[i % len(samples)]), seconds)
    return [name, *(cell for each in (step, inference) for cell in (f"{1 / each:,.0f}", f"{1000 * each:.2f}"))]


def random_samples(machine: Machine, count: int = 16) -> np.ndarray:
    shape = machine.view(machine.program.input).shape
    return np.random.default_rng(0).integers(-128, 128, (count, *shape)).astype(np.int8)


def best_seconds(work: Callable[[int], object], seconds: float) -> float:
    """Processor seconds of one call: the best mean of RUNS runs."""
    return min(timed(work, seconds) for _ in range(RUNS))


def timed(work: Callable[[int], object], seconds: float) -> float:
    """Processor seconds of one call: the mean of a run."""
    start, calls = time.process_time(), 0
    while time.process_time() - start < seconds:
        work(calls)
        calls += 1
    return (time.process_time() - start) / calls


def shares(machine: Machine, seconds: float) -> list[list[str]]:
    """Kernels by their time in a training step, the slowest first."""
    rows = [index for index, row in enumerate(machine.program.rows) if row.phase in STEP]
    samples = random_samples(machine)
    best = np.full(len(rows), np.inf)
    stop, step = time.process_time() + RUNS * seconds, 0
    while time.process_time() < stop:
        machine.set_input(samples[step % len(samples)])
        machine.view("label")[0] = step % CLASSES
        for place, index in enumerate(rows):
            start = time.process_time()
            machine.run(STEP, index, index + 1)
            best[place] = min(best[place], time.process_time() - start)
        step += 1
    seconds_of, count_of = Counter[str](), Counter[str]()
    for place, index in enumerate(rows):
        seconds_of[machine.program.rows[index].kernel] += best[place]
        count_of[machine.program.rows[index].kernel] += 1
    total = sum(seconds_of.values())
    return [
        [kernel, str(count_of[kernel]), f"{1000 * spent:.3f}", f"{spent / total:.1%}"]
        for kernel, spent in seconds_of.most_common()
    ]


if __name__ == "__main__":
    main()
