# SPDX-License-Identifier: Apache-2.0
"""torch, where it is installed: everything else of tinytrain does without it."""

from __future__ import annotations

import importlib
from typing import Any

from tinytrain.errors import ToolMissing


def torch_module() -> Any:
    """The torch package; ToolMissing with the command that installs it."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise ToolMissing(
            "torch is not installed",
            why="the float reference of a network is computed with it",
            fix="pip install 'tinytrain[torch]'",
        ) from None
