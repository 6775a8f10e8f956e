# SPDX-License-Identifier: Apache-2.0
"""Where the shared models and data are, and the small graphs that several packages are tested on."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests import nets
from tinytrain.graph import Graph

# CI runs the same examples every time; a developer's machine looks for new ones
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"
NO_SHARED = f"needs the models and data in {SHARED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `shared` are skipped, with the reason, where the folder is absent."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason=NO_SHARED))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def chain() -> Graph:
    """A chain of convolutions and a dense head."""
    return nets.chain()


@pytest.fixture
def residual() -> Graph:
    """Two residual blocks on one stream."""
    return nets.residual()
