# SPDX-License-Identifier: Apache-2.0
"""A plan of a small model, made without linking."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small import write_model
from tinytrain.boards import load
from tinytrain.planner import Plan, make_plan
from tinytrain.train import all_weights


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    model: Path = write_model(tmp_path_factory.mktemp("model") / "small.onnx")
    return make_plan(model, load("mps2-an386"), scheme=all_weights, classes=4, accumulate=True)
