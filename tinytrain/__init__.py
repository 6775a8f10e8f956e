# SPDX-License-Identifier: Apache-2.0
"""Train neural networks on microcontrollers: load, plan, export, run. See tinytrain.api."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinytrain.api import certify, export, fit, load, plan, run
    from tinytrain.data import Dataset, InputSpec, load_data

    __version__: str

__all__ = ["Dataset", "InputSpec", "__version__", "certify", "export", "fit", "load", "load_data", "plan", "run"]

_HOMES = {
    "load": "tinytrain.api",
    "plan": "tinytrain.api",
    "export": "tinytrain.api",
    "run": "tinytrain.api",
    "certify": "tinytrain.api",
    "fit": "tinytrain.api",
    "Dataset": "tinytrain.data",
    "InputSpec": "tinytrain.data",
    "load_data": "tinytrain.data",
}


def _import(name: str) -> Any:
    """Names are imported when they are first used: `import tinytrain` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("tinytrain")
    raise AttributeError(f"module 'tinytrain' has no attribute '{name}'")


if not TYPE_CHECKING:  # a type checker reads the imports above
    __getattr__ = _import


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
