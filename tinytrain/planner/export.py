# SPDX-License-Identifier: Apache-2.0
"""Plan -> firmware folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from string import Template
from typing import Any

from tinytrain.emulate import HANDLER_STACK_BYTES, makefile, render
from tinytrain.errors import OutputError
from tinytrain.exporters.c import LIBRARY_FILES, write_firmware
from tinytrain.exporters.c.model import TEMPLATES
from tinytrain.planner.plan import Plan, input_facts
from tinytrain.program import Program


def export_plan(plan: Plan, folder: Path | str) -> Path:
    """Write the firmware folder of a plan; it appears whole or not at all."""
    folder = Path(folder)
    if folder.exists():
        raise OutputError(f"'{folder}' exists already", fix="choose another folder with -o, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tinytrain-") as name:
            fresh = Path(name) / "firmware"
            fresh.mkdir()
            _write(plan, fresh)
            fresh.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write '{folder}'", why=error.strerror or str(error)) from None
    return folder


def _write(plan: Plan, folder: Path) -> None:
    program = plan.program()
    write_firmware(
        program, folder, f"{plan.forward.name}: {plan.kind}, for {plan.board.description}", plan.board.variants
    )
    render(plan.board, plan.sram.stack - HANDLER_STACK_BYTES, folder)
    (folder / "Makefile").write_text(makefile(plan.board))
    (folder / "model").mkdir()
    shutil.copyfile(plan.model, folder / "model" / plan.model.name)
    own = plan.but(model=folder / "model" / plan.model.name)
    document = {**own.as_dict(), "model": f"model/{plan.model.name}"}
    (folder / "plan.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "export.json").write_text(json.dumps(_facts(plan, program, document), indent=1) + "\n")
    (folder / "README.md").write_text(_readme(plan, program))


def _facts(plan: Plan, program: Program, document: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1, "model": document["model"], "board": plan.board.name, "sram_budget": plan.board.sram.size,
        "flash_budget": plan.board.flash.size, "input": {**input_facts(plan.forward), "layout": "HWC"},
        "classes": plan.classes, "labels": program.labels, "needs_target": program.needs_target,
        "sram": plan.sram.as_dict(), "flash": plan.flash.as_dict(), "kernels": program.kernels,
        "rows": [
            {"kernel": row.kernel, "node": row.node, "origin": row.origin, "phase": row.phase.name.lower(),
             "label": row.label, "macs": row.macs}
            for row in program.rows
        ],
    }  # fmt: skip


def _readme(plan: Plan, program: Program) -> str:
    sram, flash = plan.sram, plan.flash
    return Template((TEMPLATES / "README.md.in").read_text()).substitute(
        title=plan.forward.name,
        board=plan.board.description,
        library="\n".join(f"- `{name}`" for name in LIBRARY_FILES),
        arena=f"{sram.arena:,}",
        bound=f"{sram.arena_lower_bound:,}",
        parameters=f"{sram.parameters:,}",
        masters=f"{sram.masters:,}",
        optimizer=f"{sram.optimizer:,}",
        statics=f"{sram.statics:,}",
        stack=f"{sram.stack:,}",
        sram_total=f"{sram.total:,}",
        sram_budget=f"{plan.board.sram.size:,}",
        code="unknown" if flash.code is None else f"{flash.code:,}",
        constants=f"{flash.constants:,}",
        store=f"{flash.store:,}",
        flash_total="unknown" if flash.total is None else f"{flash.total:,}",
        flash_budget=f"{plan.board.flash.size:,}",
        input_shape=list(program.tensors[program.input].shape),
        kind=plan.kind,
        rows=len(program.rows),
        kernels=", ".join(f"`{kernel}`" for kernel in program.kernels),
    )
