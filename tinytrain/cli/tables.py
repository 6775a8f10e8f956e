# SPDX-License-Identifier: Apache-2.0
"""Tables for people. Everything in them is in the JSON too."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tinytrain.boards import Board
from tinytrain.certificates import Certificate
from tinytrain.learning import FitReport
from tinytrain.planner import Plan
from tinytrain.planner.latency import Latency
from tinytrain.report.model import ModelFigures, uint8_meaning
from tinytrain.session import RunReport
from tinytrain.train import LayerUpdate, trainable_layers

PIPED_WIDTH = 140  # columns where nobody says how wide the screen is
_NUMBER = {"justify": "right", "no_wrap": True}


def console() -> Console:
    """Stdout: with colours on a terminal, plain and wide enough in a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, soft_wrap=False)


def _table(title: str, *columns: str, numbers: int) -> Table:
    """A table whose last `numbers` columns hold numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        if index >= len(columns) - numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def show_certificate(certificate: Certificate, threshold: float) -> None:
    out, worst = console(), certificate.worst
    table = _table(
        f"{certificate.model}: mean gradients of {certificate.samples} samples, integers beside torch",
        "tensor", "elements", "same activations: cosine", "error", "float activations: cosine", "error", numbers=5,
    )  # fmt: skip
    for row in certificate.rows:
        same, free = f"{row.cosine_same:.6f}", f"{row.cosine_float:.4f}"
        table.add_row(row.short_name, _n(row.size), same, f"{row.error_same:.1e}", free, f"{row.error_float:.1e}")
    out.print(table)
    curves = _table(f"mean loss, rate {certificate.rate:.3g}", "step", "integer", "rounded", "float",
                    numbers=3)  # fmt: skip
    for step, losses in enumerate(zip(*(curve.losses for curve in certificate.curves), strict=True)):
        curves.add_row(str(step + 1), *(f"{loss:.4f}" for loss in losses))
    out.print(curves)
    word = "holds" if certificate.holds(threshold) else "DOES NOT HOLD"
    out.print(f"{word}: least cosine {worst.cosine_same:.6f} ('{worst.short_name}'), threshold {threshold:g}")


def show_model(model: ModelFigures) -> None:
    out, spec, totals = console(), model.input, model.totals
    table = _table(
        f"{model.file} ({model.format})", "layer", "operator", "output", "MACs", "weights B", "activation B", numbers=4
    )
    for row in model.operators:
        shape = "x".join(map(str, row.output_shape))
        table.add_row(row.name, row.op, shape, *map(_n, (row.macs, row.weight_bytes, row.activation_bytes)))
    table.add_section()
    table.add_row(
        f"{totals['operators']} operators",
        "",
        "",
        *(_n(totals[key]) for key in ("macs", "weight_bytes", "activation_bytes")),
    )
    out.print(table)
    real = f"real = {spec.scale:.6g} * (integer - {spec.zero_point})"
    out.print(f"input    {spec.text} int8, {real}; uint8 pixels: {uint8_meaning(spec)}")
    out.print(f"output   {model.classes:,} values")
    out.print(f"arena    {model.arena:,} B for one inference (lower bound {model.arena_lower_bound:,} B)")


def show_boards(boards: list[Board]) -> None:
    table = _table("", "board", "description", "core", "emulated by", "SRAM", "flash", numbers=2)
    for board in boards:
        table.add_row(
            board.name, board.description, board.core, board.machine, f"{board.sram.size // 1024:,} K",
            f"{board.flash.size // 1024:,} K",
        )  # fmt: skip
    console().print(table)


def show_plan(plan: Plan, written: str | None) -> None:
    out = console()
    _show_ledger(out, plan)
    _show_scheme(out, plan)
    macs = plan.macs()
    out.print(f"one training step: {macs['forward']:,} MACs forward, {macs['backward']:,} MACs backward and update")
    if (counted := plan.instructions) is not None:
        out.print(
            f"instructions, estimated: {rough(counted.train_step)} per training step, "
            f"{rough(counted.inference)} per inference"
        )
    if plan.latency is not None:
        out.print(latency_text(plan.latency))
    out.print(f"peak of the arena at {plan.peak_node}")
    for note in plan.notes:
        out.print(f"note: {note}")
    if written:
        out.print(f"\nwritten to {written}; next: tinytrain export {written} -o firmware/")


def latency_text(found: Latency) -> str:
    """An estimate of time in words, with where it comes from."""
    return (
        f"time, estimated and not measured: {_ms(found.train_step_ms)} per training step, "
        f"{_ms(found.inference_ms)} per inference at {found.core_hz / 1e6:g} MHz\n"
        f"  {found.cycles_per_instruction:g} cycles per instruction, {found.basis}"
    )


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def rough(count: int) -> str:
    """A count of which only the first digits mean something."""
    for unit, size in (("M", 1_000_000), ("thousand", 1000)):
        if count >= size:
            return f"{count / size:,.3g} {unit}" if count < 1000 * size else f"{count / size:,.0f} {unit}"
    return str(count)


def _show_ledger(out: Console, plan: Plan) -> None:
    sram, flash = plan.sram, plan.flash
    parts = {
        "SRAM": (
            ("arena", sram.arena, f"lower bound {sram.arena_lower_bound:,}"), ("parameters", sram.parameters, ""),
            ("masters", sram.masters, ""), ("optimizer", sram.optimizer, ""), ("statics", sram.statics, ""),
            ("stack", sram.stack, "static bound"), ("total", sram.total, _of(sram.total, sram.budget)),
        ),
        "flash": (
            ("code", flash.code, ""), ("constants", flash.constants, ""), ("store", flash.store, "initial parameters"),
            ("total", flash.total, _of(flash.total, flash.budget)),
        ),
    }  # fmt: skip
    table = Table(title=f"memory on {plan.board.name}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("memory")
    table.add_column("use")
    table.add_column("bytes", justify="right")
    table.add_column("")
    for memory, rows in parts.items():
        for use, size, remark in rows:
            table.add_row(
                memory, use, _n(size), remark, style="bold" if use == "total" else None, end_section=use == "total"
            )
    out.print(table)


def _show_scheme(out: Console, plan: Plan) -> None:
    scheme, graph = plan.scheme, plan.forward
    table = _table(
        f"scheme: {plan.kind}, update {scheme.update}{', accumulating' if scheme.accumulate else ''}",
        "layer", "bias", "weights", "weight bytes trained", numbers=1,
    )  # fmt: skip
    for name in (node.name for node in trainable_layers(graph)):
        layer = scheme.layers.get(name)
        if layer and (layer.bias or layer.weights):
            weight = graph[graph.node(name).inputs[2]]
            text, trained = _weights(layer, plan, name, weight.nbytes)
            table.add_row(name, "yes" if layer.bias else "-", text, _n(trained))
    table.add_row("classifier", "yes", "all, int16", _n(_classifier_bytes(plan)))
    out.print(table)


def _weights(layer: LayerUpdate, plan: Plan, name: str, size: int) -> tuple[str, int]:
    from tinytrain.train.scheme import channel_count

    if layer.weights is None:
        return "-", 0
    if layer.weights.axis == "all":
        return "all", size
    total = channel_count(plan.forward, plan.forward.node(name), layer.weights.axis)
    count = len(layer.weights.channels)
    return f"{count} of {total} {layer.weights.axis} channels", size * count // total


def _classifier_bytes(plan: Plan) -> int:
    return sum(
        t.nbytes for name, t in plan.graph.tensors.items() if name.endswith(".head.weight") and t.alias_of is None
    )


def show_run(report: RunReport) -> None:
    out = console()
    table = _table(f"{report.model} on {report.board}: {report.steps:,} steps", "", "before", "after", numbers=2)
    if report.evaluated:
        table.add_row(
            f"accuracy on {report.evaluated:,} test samples",
            _percent(report.accuracy_before),
            _percent(report.accuracy_after),
        )
    table.add_row("training loss, first and last", f"{report.loss_first:.4f}", f"{report.loss_last:.4f}")
    out.print(table)
    _show_instructions(out, report)
    planned = "" if report.planned is None else f" ({report.planned:,} planned)"
    out.print(f"SRAM     {report.linked:,} B linked{planned}")
    out.print(f"used     arena {report.arena_used:,} B, stack {report.stack_used:,} + {report.handler_stack_used:,} B")
    out.print(f"CRC      {report.parameters_crc32:08x} on the board, {_host(report)}")


def _show_instructions(out: Console, report: RunReport) -> None:
    counted = report.instructions
    if counted is None:
        return
    table = _table("instructions, one sample", "part", "executed", numbers=1)
    table.add_row("inference", _n(counted.inference))
    table.add_row("training step", _n(counted.train_step))
    for phase, instructions in counted.phases.items():
        table.add_row(f"  {phase}", _n(instructions))
    out.print(table)


def _host(report: RunReport) -> str:
    if report.host_parameters_crc32 is None:
        return "the host did not repeat the run"
    verdict = "every bit agrees" if report.identical else "[bold red]they differ[/]"
    return f"{report.host_parameters_crc32:08x} on the host: {verdict}"


def show_export(facts: dict[str, Any]) -> None:
    out = console()
    out.print(f"{facts['folder']}: {facts['files']} files for {facts['board']}")
    out.print(f"one training step: {facts['rows']} calls of {facts['kernels']} kernels")
    out.print(f"next: make -C {facts['folder']}, or tinytrain run {facts['folder']} --data DATA")


def _n(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _of(total: int | None, budget: int | None) -> str:
    return "" if not budget or total is None else f"of {budget:,}, {budget - total:,} left"


def show_fit(report: FitReport) -> None:
    """Accuracy epoch by epoch, a column per seed; then the means."""
    out = console()
    runs = report.runs
    out.print(f"{report.model} on {report.data}: test accuracy", soft_wrap=True)
    table = _table("", "epoch", "loss", *(f"seed {run.seed}" for run in runs), numbers=len(runs) + 1)
    table.add_row("before", "", *(_percent(run.before) for run in runs))
    for index, epochs in enumerate(zip(*(run.epochs for run in runs), strict=True)):
        loss = sum(epoch.loss for epoch in epochs) / len(epochs)
        table.add_row(str(index + 1), f"{loss:.4f}", *(_percent(epoch.accuracy) for epoch in epochs))
    out.print(table)
    facts = report.as_dict()
    spread = facts["accuracy"]["std"]
    deviation = f" (standard deviation {100 * spread:.2f} over {len(runs)} seeds)" if spread is not None else ""
    out.print(f"accuracy     {_percent(report.accuracy)}{deviation}, {report.evaluated:,} test samples")
    if report.difference is not None:
        reference = facts["float"]["accuracy"]["mean"]
        out.print(f"in float     {_percent(reference)}; integer minus float {100 * report.difference:+.2f} points")
    if report.head_start is not None:
        out.print(f"head start   {_percent(report.head_start)} after one epoch of the classifier alone")
    sizes = ", ".join(f"{name} {_n(size)}" for name, size in report.sram.items() if name != "total")
    out.print(f"SRAM         {_n(report.sram['total'])} B without stack and statics: {sizes}")
    out.print(f"speed        {facts['steps_per_second']} steps per second on this machine")
