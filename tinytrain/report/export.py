# SPDX-License-Identifier: Apache-2.0
"""What is in an exported firmware folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def export_figures(folder: Path) -> dict[str, Any]:
    """The JSON of `tinytrain export`."""
    facts: dict[str, Any] = json.loads((folder / "export.json").read_text())
    return {
        "folder": str(folder),
        "model": facts["model"],
        "board": facts["board"],
        "classes": facts["classes"],
        "input": facts["input"],
        "sram": facts["sram"],
        "flash": facts["flash"],
        "files": sum(1 for path in folder.rglob("*") if path.is_file()),
        "kernels": len(facts["kernels"]),
        "rows": len(facts["rows"]),
    }
