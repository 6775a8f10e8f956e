# SPDX-License-Identifier: Apache-2.0
"""The small model and its data, and a task of one layer trained in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small import small_data, small_model
from tinytrain.augment import Augment
from tinytrain.data import InputSpec, load_data
from tinytrain.frontends import load_model
from tinytrain.learning import Settings
from tinytrain.learning.task import Task, make_task
from tinytrain.train import parse_scheme

SCHEME = {"layers": {"layer2": {"bias": True, "input_channels": 0.5}}}

__all__ = ["small_data", "small_model"]


@pytest.fixture(scope="session")
def task(small_model: Path, small_data: Path) -> Task:
    """Three epochs of batches of 4, mirrored: the first two layers are frozen."""
    forward = load_model(small_model)
    data = load_data(small_data, InputSpec.of(forward))
    settings = Settings(epochs=3, batch=4, lr=0.1, augment=Augment(flip=True))
    return make_task(forward, data, parse_scheme(SCHEME, forward), settings)
