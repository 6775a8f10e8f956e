# SPDX-License-Identifier: Apache-2.0
"""A profile on the terminal: a table of kernels, and bars like a flame graph's, for phases, kernels and layers."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinytrain.cli.tables import latency_text
from tinytrain.session import Profile
from tinytrain.session.profile import STEP

# how a phase looks, with colours and without
PHASES = {
    "forward": ("█", "green"), "save": ("░", "cyan"), "loss": ("░", "magenta"), "backward": ("▓", "yellow"),
    "update": ("▒", "red"),
}  # fmt: skip
NAME_WIDTH, NARROWEST_BAR = 46, 20
SMALLEST_SHARE = 0.0005  # of a step: what is less has no line of its own


def show_profile(out: Console, profile: Profile) -> None:
    out.print(_kernel_table(profile))
    out.print(f"machine code of all kernels: {profile.code_size:,} B\n")
    width = max(NARROWEST_BAR, out.width - NAME_WIDTH - 16)
    for line in (*_flame(profile, width), Text(), *_layers(profile, width)):
        out.print(line, no_wrap=True, crop=True)
    out.print()
    if profile.latency is not None:
        out.print(latency_text(profile.latency))


def _kernel_table(profile: Profile) -> Table:
    table = Table(
        title=f"one training step on {profile.board} ({profile.core}): {profile.train_step:,} instructions; "
        f"one inference: {profile.inference:,}",
        title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    table.add_column("kernel", overflow="fold")
    table.add_column("twin")
    for column in ("calls", "instructions", "MACs", "per MAC", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for entry in profile.kernels:
        code = profile.code.get(entry.name.split()[0])
        per_mac = "" if entry.per_mac is None else f"{entry.per_mac:.2f}"
        table.add_row(
            entry.name, code.variant if code else "", str(entry.calls), f"{entry.instructions:,}",
            f"{entry.macs:,}" if entry.macs else "", per_mac, f"{entry.share:.1%}",
        )  # fmt: skip
    return table


def _flame(profile: Profile, width: int) -> list[Text]:
    """The step, its phases below it, and below each its kernels: every bar stands under what it is a part of."""
    total = sum(row.instructions for row in profile.rows) or 1
    lines = [_line("training step", profile.train_step, _bar(0, total, total, width, "█", "bold"), "bold")]
    start = 0
    for phase in STEP:
        kernels = profile.sums(lambda row: row.label, (phase,))
        spent = sum(entry.instructions for entry in kernels)
        if not spent:
            continue
        glyph, style = PHASES[phase]
        lines.append(_line(f"  {phase}", spent, _bar(start, spent, total, width, glyph, style), style))
        at = start
        for entry in sorted(kernels, key=lambda entry: -entry.instructions):
            if entry.instructions >= SMALLEST_SHARE * total:
                bar = _bar(at, entry.instructions, total, width, glyph, style)
                lines.append(_line(f"    {entry.name}", entry.instructions, bar))
            at += entry.instructions
        start += spent
    return lines


def _layers(profile: Profile, width: int) -> list[Text]:
    """A bar per layer, in order of execution: what a step does for it, phase by phase."""
    legend = Text("layer".ljust(NAME_WIDTH) + "instructions".rjust(14) + "  ")
    for phase, (glyph, style) in PHASES.items():
        legend.append(f"{glyph} {phase}  ", style)
    layers = profile.layers
    largest = max((entry.instructions for entry in layers), default=1) or 1
    lines = [legend]
    for entry in layers:
        bar, drawn, done = Text(), 0, 0
        for phase in STEP:
            done += entry.phases.get(phase, 0)
            end = round(done * width / largest)
            glyph, style = PHASES[phase]
            bar.append(glyph * (end - drawn), style)
            drawn = end
        lines.append(_line(entry.name, entry.instructions, bar))
    return lines


def _line(name: str, instructions: int, bar: Text, style: str = "") -> Text:
    shown = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
    return Text.assemble((shown.ljust(NAME_WIDTH), style), f"{instructions:>14,}  ", bar)


def _bar(start: int, size: int, total: int, width: int, glyph: str, style: str) -> Text:
    first, last = round(start * width / total), round((start + size) * width / total)
    return Text.assemble(" " * min(first, width - 1), (glyph * max(1, last - first), style))
