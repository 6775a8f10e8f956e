# SPDX-License-Identifier: Apache-2.0
"""Instruction counts of the kernels, beside what the field's engines need for the same work.

    make bench                       everything: five cores, three models, this host beside PyTorch
    make bench BENCH="--boards mps2-an500 --works mcunet --no-host"
    make bench BENCH=--write         also into docs/benchmarks.md and docs/kernels.md
    make bench BENCH=--pin           counts of MCUNet become those that the regression test compares with
    make bench BENCH=--fit           fits the planner's model of instructions (tinytrain/planner/costs.json)

Everything printed is in build/bench.json too. Peers' figures and targets are data: benchmarks/peers.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bench_tables as tables
import fit_costs
from bench_host import HostReport, measure
from bench_tables import Results
from common import ROOT, publish
from works import FIVE, MCUNET, WORKS, Work

from tinytrain.session import Profile

JSON = ROOT / "build" / "bench.json"
PINNED = ROOT / "tests" / "end_to_end" / "instruction_counts.json"
KERNELS = ROOT / "docs" / "kernels.md"


def main() -> None:
    asked = arguments()
    if asked.fit:
        fit_costs.write(fit_costs.fit(asked.boards or fit_costs.BOARDS))
        return
    works = [work for work in WORKS if not asked.works or work.name in asked.works]
    results, skipped = count(works, asked.boards)
    host = None if asked.no_host else measure(asked.seconds)
    goals = tables.targets(results, host)
    publish("bench", page_text(results, skipped, host, goals))
    if any(name == MCUNET.name for name, _ in results):
        for kernel in MCUNET.program.kernels:
            publish(f"kernel {kernel}", tables.kernel_section(kernel, results), KERNELS, quiet=True)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(document(results, skipped, host, goals), indent=1) + "\n")
    print(f"also in {asked.json}", file=sys.stderr)
    if asked.pin:
        pin(results)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", nargs="+", choices=fit_costs.BOARDS, help="these instead of all that a work is for")
    parser.add_argument("--works", nargs="+", choices=[work.name for work in WORKS], help="these instead of all")
    parser.add_argument("--no-host", action="store_true", help="leave this machine's speed out")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one of the host's short runs")
    parser.add_argument("--json", type=Path, default=JSON, help="where the JSON goes")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/")
    parser.add_argument("--pin", action="store_true", help=f"write {PINNED.name}, which a test compares with")
    parser.add_argument("--fit", action="store_true", help="fit the planner's cost model, and do nothing else")
    asked = parser.parse_args()
    if asked.write and (asked.boards or asked.works or asked.no_host):
        parser.error("--write needs everything: leave --boards, --works and --no-host out")
    if asked.pin and (set(asked.boards or FIVE) < set(FIVE) or MCUNET.name not in (asked.works or [MCUNET.name])):
        parser.error(f"--pin needs {MCUNET.name} on all five boards")
    return asked


def count(works: list[Work], boards: list[str] | None) -> tuple[dict[tuple[str, str], Profile], dict[str, str]]:
    """Profiles by (work, board), and why a work has none."""
    results, skipped = {}, {}
    for work in works:
        if work.missing:
            skipped[work.name] = work.missing
            print(f"skipped: {work.title}: {work.missing}", file=sys.stderr)
            continue
        for board in boards or work.boards:
            results[work.name, board] = work.profile(board)
    return results, skipped


def page_text(results: Results, skipped: dict[str, str], host: HostReport | None, goals: list[dict[str, Any]]) -> str:
    """The section of docs/benchmarks.md."""
    mcunet = [profile for (name, _), profile in results.items() if name == MCUNET.name]
    parts = ["### Targets\n", tables.targets_table(goals)]
    if mcunet:
        parts += [
            f"### {MCUNET.title}: one step\n",
            "Millions of executed instructions, in parentheses per multiply-accumulate. TTE: Tiny Training Engine.\n",
            tables.phases_table(MCUNET, results),
        ]
    if inference := tables.inference_table(results):
        parts += ["### Inference beside other engines\n", inference]
    parts += [f"Skipped: {name}: {why}.\n" for name, why in skipped.items()]
    for profile in mcunet:
        parts += [f"### Kernels on {profile.board} ({profile.core})\n", tables.kernel_table(profile)]
    if mcunet:
        parts += ["### Machine code of the kernels, bytes\n", tables.code_table(mcunet)]
    if host is not None:
        parts += [
            "### This host, one core, beside PyTorch in the same run\n",
            f"{host.processor}; torch {host.torch or 'absent'}. Processor time; the best of several runs in turn.\n",
            tables.host_table(host), *([f"PyTorch: {host.skipped}.\n"] if host.skipped else []),
        ]  # fmt: skip
    return "\n".join(parts)


def document(
    results: Results, skipped: dict[str, str], host: HostReport | None, goals: list[dict[str, Any]]
) -> dict[str, Any]:
    """build/bench.json."""
    titles = {work.name: work for work in WORKS}
    return {
        "tools": {tool: version(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")},
        "counts": [
            {
                "work": name, "title": titles[name].title, "board": board, "core": profile.core,
                "phases": tables.phase_sums(titles[name], profile), **profile.as_dict(),
            }
            for (name, board), profile in results.items()
        ],
        "skipped": skipped,
        "targets": goals,
        "host": host.as_dict() if host else None,
        "peers": {key: tables.PEERS[key] for key in ("sources", "figures")},
    }  # fmt: skip


def version(tool: str) -> str:
    result = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return result.stdout.splitlines()[0] if result.stdout else "unknown"


def pin(results: Results) -> None:
    """The counts that tests/end_to_end/test_instruction_counts.py holds the kernels to."""
    boards = {
        board: {"inference": profile.inference, "train_step": profile.train_step}
        for (name, board), profile in results.items()
        if name == MCUNET.name
    }
    facts = {"command": "make bench BENCH=--pin", "work": MCUNET.title, "boards": boards}
    PINNED.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"wrote {PINNED}", file=sys.stderr)


if __name__ == "__main__":
    main()
