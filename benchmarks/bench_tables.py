# SPDX-License-Identifier: Apache-2.0
"""The tables of `make bench`: counts of ours beside the peers' stored figures, and targets beside what was reached."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_host import HostReport
from common import table
from works import MCUNET, WORKS, Work

from tinytrain.planner.costs import STEP
from tinytrain.program import Row
from tinytrain.session import Profile

PEERS: dict[str, Any] = json.loads((Path(__file__).with_name("peers.json")).read_text())
Results = Mapping[tuple[str, str], Profile]  # by name of the work and of the board
SUMS = "scales, masks, bias sums"
PHASES = (
    "forward 1x1", "forward depthwise", "stem 3x3", "residual add", "backward 1x1", "backward depthwise",
    "weight gradient + update", SUMS, "the rest",
)  # fmt: skip
ELEMENTWISE = ("tt_add_s8", "tt_gradient_add_s16", "tt_gradient_add_s8")


def phase_of(row: Row) -> str:
    """The line of the table that a kernel call belongs to; the rest: classifier, loss, pooling."""
    kernel, pointwise = row.kernel, row.label.endswith(" 1x1")
    if kernel == "tt_conv2d_s8":
        return "forward 1x1" if pointwise else "stem 3x3"
    if "depthwise" in kernel and "update" not in kernel:
        return "forward depthwise" if kernel == "tt_depthwise_conv2d_s8" else "backward depthwise"
    if kernel == "tt_add_s8":
        return "residual add"
    if kernel.startswith("tt_conv2d_input_gradient"):
        return "backward 1x1"
    if "conv2d_weight_update" in kernel:
        return "weight gradient + update"
    sums = ("tt_clamp_mask", "tt_mask_gradient", "tt_bias_update", "tt_gradient_add", "tt_slice_channels")
    return SUMS if kernel.startswith(sums) else "the rest"


def elements(row: Row) -> int:
    """What a kernel that multiplies nothing is measured by: outputs of an addition, else the longer side."""
    return row.writes if row.kernel in ELEMENTWISE else max(row.reads, row.writes)


def rows_of(work: Work, profile: Profile) -> list[tuple[Row, int]]:
    """The kernel calls of a step with their instructions."""
    rows = [row for row in work.program.rows if row.phase in STEP]
    return list(zip(rows, (row.instructions for row in profile.rows), strict=True))


def phase_sums(work: Work, profile: Profile) -> dict[str, dict[str, float]]:
    """Per line of the table: calls, instructions, macs, elements; and the two totals."""
    sums = {phase: dict.fromkeys(("calls", "instructions", "macs", "elements"), 0.0) for phase in PHASES}
    for row, instructions in rows_of(work, profile):
        line = sums[phase_of(row)]
        for key, value in zip(line, (1, instructions, row.macs, elements(row)), strict=True):
            line[key] += value
    return {
        **sums,
        "whole step": {"instructions": profile.train_step},
        "inference": {"instructions": profile.inference},
    }


def peer(work: str, core: str, phase: str, source: str = "") -> dict[str, Any] | None:
    """A peer's stored figure."""
    wanted = {"work": work, "core": core, "phase": phase, "unit": "instructions"}
    found = (f for f in PEERS["figures"] if wanted.items() <= f.items() and source in ("", f["source"]))
    return next(found, None)


def millions(count: float) -> str:
    return f"{count / 1e6:,.2f} M"


def phases_table(work: Work, results: Results) -> str:
    """The issue's table: a peer's figures on the left, ours on every core."""
    profiles = [profile for (name, _), profile in results.items() if name == work.name]
    sums = [phase_sums(work, profile) for profile in profiles]
    rows = []
    for phase in (*PHASES, "whole step", "inference"):
        cells = [phase]
        for core in ("cortex-m7", "cortex-m4"):
            theirs = peer(work.name, core, phase)
            cells.append(_cell(theirs["value"], theirs) if theirs else "")
        for each in sums:
            line = each[phase]
            own = {}
            if line.get("macs") and phase != "the rest":
                own["per_mac"] = line["instructions"] / line["macs"]
            elif phase == "residual add" and line["elements"]:
                own["per_element"] = line["instructions"] / line["elements"]
            cells.append(_cell(line["instructions"], own))
        rows.append(cells)
    columns = ("phase", "TTE, M7", "TTE, M4", *(_core(profile.core) for profile in profiles))
    return table(columns, rows)


def _cell(instructions: float, figure: Mapping[str, Any]) -> str:
    """Millions of instructions, and per MAC or element."""
    text = millions(instructions)
    if "per_mac" in figure:
        return f"{text} ({figure['per_mac']:.2f})"
    return f"{text} ({figure['per_element']:.0f} per element)" if "per_element" in figure else text


def _core(core: str) -> str:
    return core.removeprefix("cortex-").upper()


def inference_table(results: Results) -> str:
    """Works that only infer, beside their peers."""
    rows = []
    for (name, _), profile in results.items():
        work = next(work for work in WORKS if work.name == name)
        if not work.trains:
            theirs = [peer(name, profile.core, "inference", source) for source in ("tinyengine", "tflm")]
            macs = sum(row.macs for row in profile.rows if row.phase == "forward")
            rows.append([
                work.title, _core(profile.core), *(millions(figure["value"]) if figure else "" for figure in theirs),
                millions(profile.inference), f"{profile.inference / macs:.2f}",
            ])  # fmt: skip
    columns = ("inference", "core", "TinyEngine", "TFLite-Micro, CMSIS-NN", "tinytrain", "per MAC")
    return table(columns, rows) if rows else ""


def kernel_table(profile: Profile) -> str:
    """Where the instructions of a step go."""
    rows = []
    for entry in profile.kernels:
        code = profile.code.get(entry.name.split()[0])
        rows.append([
            entry.name, code.variant if code else "", entry.calls, f"{entry.instructions:,}",
            f"{entry.macs:,}" if entry.macs else "", "" if entry.per_mac is None else f"{entry.per_mac:.2f}",
            f"{entry.share:.1%}",
        ])  # fmt: skip
    return table(("kernel", "twin", "calls", "instructions", "MACs", "per MAC", "share"), rows)


def kernel_section(kernel: str, results: Results) -> str:
    """Of one kernel in the step of MCUNet: what a multiply-accumulate, or an element, costs on every core."""
    profiles = [profile for (name, _), profile in results.items() if name == MCUNET.name]
    calls = [row for row in MCUNET.program.rows if row.kernel == kernel and row.phase in STEP]
    unit = "MAC" if any(row.macs for row in calls) else "element"
    rows = []
    for label in sorted({row.label for row in calls}):
        same = [row for row in calls if row.label == label]
        work = sum(row.macs if unit == "MAC" else elements(row) for row in same)
        spent = [
            sum(count for row, count in rows_of(MCUNET, profile) if row.label == label) / work for profile in profiles
        ]
        window = label.removeprefix(kernel).strip() or "all"
        rows.append([window, len(same), f"{work:,}", *(f"{each:.2f}" for each in spent)])
    columns = ("window", "calls", f"{unit}s", *(f"{_core(profile.core)}, per {unit}" for profile in profiles))
    code = ["code, bytes", "", "", *(_code(profile, kernel) for profile in profiles)]
    text = table(columns, [*rows, code])
    for bound in PEERS["bounds"]:
        if bound["kernel"].split()[0] == kernel:
            window = f" {bound['kernel'].removeprefix(kernel).strip()}" if " " in bound["kernel"] else ""
            cores = ", ".join(_core(core) for core in bound["cores"])
            text += f"\nProbed bound on {cores}{window}: {bound['text']}."
    return text.rstrip("\n") + "\n"


def code_table(profiles: Sequence[Profile]) -> str:
    """Machine code of the kernels of one firmware, by core."""
    names = sorted({name for profile in profiles for name in profile.code})
    rows = [[name, *(_code(profile, name) for profile in profiles)] for name in names]
    rows.append(["**all**", *(f"**{profile.code_size:,}**" for profile in profiles)])
    return table(("kernel", *(_core(profile.core) for profile in profiles)), rows)


def _code(profile: Profile, name: str) -> str:
    code = profile.code.get(name)
    return f"{code.size:,} ({code.variant})" if code else ""


def host_table(host: HostReport) -> str:
    """Ours and PyTorch's in the same run, and what is stored of PyTorch from another run."""
    stored = {f["batch"]: f["value"] for f in PEERS["figures"] if f["source"] == "torch"}
    rows = []
    for batch in sorted({rate.batch for rate in host.rates}):
        ours, theirs = host.of("tinytrain", batch), host.of("PyTorch", batch)
        rows.append([
            batch, f"{ours:,.0f}" if ours else "", f"{theirs:,.0f}" if theirs else "not measured",
            f"{ours / theirs:.2f}" if ours and theirs else "", f"{stored[batch]:,}" if batch in stored else "",
        ])  # fmt: skip
    columns = (
        "batch",
        "tinytrain, samples/s",
        "PyTorch float32, samples/s",
        "ratio",
        "PyTorch, as stored from elsewhere",
    )
    return table(columns, rows)


def targets(results: Results, host: HostReport | None) -> list[dict[str, Any]]:
    """Every target with what was reached; None where it was not measured."""
    return [{**target, "reached": reached(target, results, host)} for target in PEERS["targets"]]


def reached(target: Mapping[str, Any], results: Results, host: HostReport | None) -> float | None:
    if target["core"] == "host":
        return host.ratio if host else None
    for (name, _), profile in results.items():
        if (name, profile.core) == (target["work"], target["core"]):
            phases = {"whole step": profile.train_step, "inference": profile.inference}
            return phases.get(target["phase"], profile.code_size)
    return None


def targets_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Honestly: what is missed says so."""
    lines = []
    for target in rows:
        value, is_ratio = target["reached"], target["core"] == "host"
        work = next(work.title for work in WORKS if work.name == target["work"])
        name = f"{work}: {target['phase']}, {'one core of this host' if is_ratio else _core(target['core'])}"
        if value is None:
            verdict = "not measured"
        elif (value >= target["aim"]) if is_ratio else (value <= target["aim"]):
            verdict = "aim reached"
        elif (value >= target["must"]) if is_ratio else (value <= target["must"]):
            verdict = "must reached"
        else:
            verdict = "**missed**"
        lines.append([name, *(_target(target, each) for each in (target["must"], target["aim"], value)), verdict])
    return table(("work", "must", "aim", "reached", ""), lines)


def _target(target: Mapping[str, Any], value: float | None) -> str:
    if value is None:
        return ""
    if target["core"] == "host":
        return f"{value:.2f}x"
    return f"{value / 1024:.1f} KB" if target["phase"] == "kernel code" else millions(value)
