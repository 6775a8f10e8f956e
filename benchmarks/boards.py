# SPDX-License-Identifier: Apache-2.0
"""All boards once: the same 100 training steps give the same parameters everywhere; instructions by phase.

    python benchmarks/boards.py [--write] [--steps N]

Work: mcunet-5fps with the 49 KB scheme (3 classes, pets3), and kws_dscnn with all weights (random inputs; M0+ too).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import ROOT, model_path, publish, table

from tinytrain import emulate
from tinytrain.boards import Board, load
from tinytrain.data import InputSpec, gather_samples, load_data
from tinytrain.frontends import load_model
from tinytrain.host import Machine
from tinytrain.planner import Plan, export_plan, make_plan
from tinytrain.planner.make import Samples
from tinytrain.train import all_weights, load_scheme

DATA = ROOT / "examples" / "data"
BOARDS = ("mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547")
PROFILES = ("stm32f746", "stm32h743", "nrf52840", "rp2040")
RATE = 0.003


def main() -> None:
    steps = int(sys.argv[sys.argv.index("--steps") + 1]) if "--steps" in sys.argv else 100
    rows = mcunet_rows(steps) + kws_rows(steps)
    columns = (
        "work", "board", "core", f"parameters after {steps} steps", "inference", "train step", "forward", "save",
        "loss", "backward", "update",
    )  # fmt: skip
    publish("boards", table(columns, rows))
    if any("DIFFERENT" in cell for row in rows for cell in row):
        sys.exit("the parameters differ between machines")


def mcunet_rows(steps: int) -> list[list[str]]:
    model = DATA / "mcunet-5fps.onnx"
    spec = InputSpec.of(load_model(model))
    data = load_data(DATA / "pets3.npz", spec)
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[:steps]
    samples = Samples(gather_samples(data.x_train, chosen, spec), data.y_train[chosen], data.class_count)
    base = make_plan(
        model, load("stm32f746").narrowed(sram=256 * 1024), samples=samples,
        scheme=lambda graph: load_scheme(DATA / "sparse_update_schemes.json", graph, "mcunet-5fps/49kb"),
    )  # fmt: skip
    return work_rows("mcunet-5fps 49 KB", base, samples, (*BOARDS, *PROFILES[:3]))


def kws_rows(steps: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    samples = Samples(rng.integers(-128, 128, (steps, 49, 10, 1)).astype(np.int8), rng.integers(0, 12, steps), 12)
    base = make_plan(
        model_path("mlperf_tiny/kws_dscnn_int8.tflite"), load("stm32f746"), samples=samples, scheme=all_weights
    )
    return work_rows("kws_dscnn all weights", base, samples, (*BOARDS, "rp2040"))


def work_rows(work: str, base: Plan, samples: Samples, boards: tuple[str, ...]) -> list[list[str]]:
    """One row per machine, the host first; `base` fixes the program, every board gets the same one."""
    machine = Machine(base.program())
    machine.set_learning_rate(RATE)
    for sample, label in zip(samples.x, samples.y, strict=True):
        machine.train_step(sample, int(label))
    expected = machine.parameters_crc32()
    rows = [[work, "host", "", f"{expected:08x}", *[""] * 7]]
    for name in boards:
        crc, counts = on_board(base, load(name), samples)
        verdict = f"{crc:08x}" + ("" if crc == expected else " DIFFERENT")
        phases = [f"{counts.phases.get(phase, 0):,}" for phase in ("forward", "save", "loss", "backward", "update")]
        rows.append([work, name, load(name).core, verdict, f"{counts.inference:,}", f"{counts.train_step:,}", *phases])
        print(*rows[-1][:6], file=sys.stderr, flush=True)
    return rows


def on_board(base: Plan, board: Board, samples: Samples) -> tuple[int, emulate.Instructions]:
    """The parameters' CRC after all steps, and the instructions of one step."""
    with tempfile.TemporaryDirectory() as name:
        folder = export_plan(base.but(board=board, sram=replace(base.sram, stack=4096)), Path(name) / "firmware")
        stream = emulate.CommandStream().learning_rate(RATE)
        for index, label in enumerate(samples.y):
            stream.train(index, int(label))
        report = emulate.run(folder, stream, samples.x)
        return report.final.parameters_crc32, emulate.count_instructions(folder, samples.x[0], int(samples.y[0]))


if __name__ == "__main__":
    main()
