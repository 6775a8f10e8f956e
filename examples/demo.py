# SPDX-License-Identifier: Apache-2.0
"""The demo: a real network learns real images on an emulated board with 256 KB of SRAM.

It runs the four commands a user would type, and then sets side by side what was planned, linked and measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples" / "data"
OUT = ROOT / "build" / "demo"
TINYTRAIN = str(Path(sys.executable).parent / "tinytrain")

console = Console()


def tinytrain(*args: str, result: Path | None = None) -> None:
    """Run one command as shown; `result` receives its JSON."""
    words = [str(Path(a).relative_to(ROOT)) if a.startswith(str(ROOT)) else a for a in args]
    console.print(f"\n[bold]$ tinytrain {' '.join(words)}[/bold]")
    if result is None:
        outcome = subprocess.run([TINYTRAIN, *args])
    else:
        with result.open("w") as file:
            outcome = subprocess.run([TINYTRAIN, *args, "--json"], stdout=file)
    if outcome.returncode:
        sys.exit(outcome.returncode)


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    plan, firmware, report = OUT / "plan.json", OUT / "firmware", OUT / "run.json"
    tinytrain(
        "plan", str(DATA / "mcunet-5fps.onnx"), "--data", str(DATA / "pets3.npz"), "--board", "stm32f746",
        "--sram", "256K", "--flash", "1M", "--scheme", str(DATA / "sparse_update_schemes.json"),
        "--scheme-key", "mcunet-5fps/49kb", "-o", str(plan),
    )  # fmt: skip
    tinytrain("export", str(plan), "-o", str(firmware))
    tinytrain(
        "run", str(firmware), "--data", str(DATA / "pets3.npz"), "--epochs", "2", "--lr", "0.004", "--flip",
        result=report,
    )  # fmt: skip
    show(json.loads(plan.read_text()), json.loads(report.read_text()), time.monotonic() - started)


def show(plan: dict, run: dict, seconds: float) -> None:
    """The final table."""
    accuracy = run["accuracy"]
    table = Table(title="Planned, linked, measured (bytes)", title_justify="left")
    for column in ("", "planned", "linked", "measured"):
        table.add_column(column, justify="right" if column else "left")
    sram, flash, linked = plan["sram"], plan["flash"], run["sram"]
    stack = linked["stack_used"] + linked["handler_stack_used"]
    table.add_row("SRAM, all", f"{sram['total']:,}", f"{linked['linked']:,}", f"budget {sram['budget']:,}")
    table.add_row("  arena", f"{sram['arena']:,}", "", f"{linked['arena_used']:,}")
    table.add_row("  stack (static bound)", f"{sram['stack']:,}", "", f"{stack:,}")
    table.add_row("flash, all", f"{flash['total']:,}", f"{run['flash']['linked']:,}", f"budget {flash['budget']:,}")
    console.print()
    console.print(table)
    same = run["parameters_crc32"] == run["host_parameters_crc32"]
    console.print(
        f"test accuracy {accuracy['before']:.1%} -> [bold]{accuracy['after']:.1%}[/bold] after {run['steps']} steps; "
        f"{run['instructions']['train_step'] / 1e6:.0f} M instructions per step, "
        f"{run['instructions']['inference'] / 1e6:.0f} M per inference\n"
        f"parameters: board {run['parameters_crc32']:08x}, host {run['host_parameters_crc32']:08x}: "
        + ("the same bits" if same else "[red]DIFFERENT[/red]")
        + f"\n{seconds:.0f} s; results in {OUT.relative_to(ROOT)}/"
    )
    write_benchmark(plan, run)
    checks = {
        "accuracy of at least 90 %": accuracy["after"] >= 0.9,
        "planned SRAM = linked SRAM": sram["total"] == linked["linked"],
        "planned arena = measured arena": sram["arena"] == linked["arena_used"],
        "planned flash = linked flash": flash["total"] == run["flash"]["linked"],
        "stack bound >= measured stack": sram["stack"] >= stack,
        "host and board agree": same,
    }
    failed = [name for name, passed in checks.items() if not passed]
    if failed:
        console.print(f"[red]not reached: {', '.join(failed)}[/red]")
        sys.exit(1)


def write_benchmark(plan: dict, run: dict) -> None:
    """With --write: the demo's section of docs/benchmarks.md."""
    if "--write" not in sys.argv:
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from common import publish, table

    sram, flash, linked, phases = plan["sram"], plan["flash"], run["sram"], run["instructions"]["phases"]
    stack = linked["stack_used"] + linked["handler_stack_used"]
    bytes_table = table(
        ("bytes", "planned", "linked", "measured", "budget"),
        [
            ("SRAM", f"{sram['total']:,}", f"{linked['linked']:,}", "", f"{sram['budget']:,}"),
            (
                f"arena (lower bound {sram['arena_lower_bound']:,})",
                f"{sram['arena']:,}",
                "",
                f"{linked['arena_used']:,}",
                "",
            ),
            (
                "parameters, masters, optimizer",
                f"{sram['parameters'] + sram['masters'] + sram['optimizer']:,}",
                "",
                "",
                "",
            ),
            ("stacks (static bound)", f"{sram['stack']:,}", "", f"{stack:,}", ""),
            ("flash", f"{flash['total']:,}", f"{run['flash']['linked']:,}", "", f"{flash['budget']:,}"),
        ],
    )
    counts = run["instructions"]
    text = (
        f"Test accuracy {run['accuracy']['before']:.1%} before, **{run['accuracy']['after']:.1%}** after "
        f"{run['steps']} steps; parameters on the board {run['parameters_crc32']:08x}, on the host "
        f"{run['host_parameters_crc32']:08x}.\n\n{bytes_table}\n"
        f"Instructions: {counts['inference']:,} per inference, {counts['train_step']:,} per training step ("
        + ", ".join(f"{name} {count:,}" for name, count in phases.items() if count)
        + f"). MACs: {plan['macs']['forward']:,} forward, {plan['macs']['backward']:,} backward and update.\n"
    )
    publish("demo", text)


if __name__ == "__main__":
    main()
