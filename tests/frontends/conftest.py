# SPDX-License-Identifier: Apache-2.0
"""Where the shared models and data are."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the models and data in {folder}")
    return folder
