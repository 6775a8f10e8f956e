# SPDX-License-Identifier: Apache-2.0
"""The command `fit`: its options, its table, its JSON, refusals and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import document, refused, tinytrain

QUICK = ("--epochs", 2, "--batch", 4, "--eval", 9)


@pytest.fixture
def scheme(tmp_path: Path) -> Path:
    path = tmp_path / "scheme.json"
    path.write_text(json.dumps({"layers": {"layer2": {"bias": True, "input_channels": 0.5}}}))
    return path


def test_its_json_holds_runs_and_settings(small_model: Path, small_data: Path, scheme: Path) -> None:
    found = document(
        "fit", small_model, "--data", small_data, "--scheme", scheme, *QUICK, "--seed", 3, "--seeds", 2, "--augment",
        "flip,shift=1", "--update", "stochastic", "--scaling", "none", "--lr", 0.05, "--schedule", "constant",
    )  # fmt: skip
    assert [run["seed"] for run in found["runs"]] == [3, 4]
    assert found["settings"]["lr"] == 0.05 and found["settings"]["schedule"] == "constant"
    assert found["settings"]["augment"]["shift"] == 1 and found["evaluated"] == 9
    assert found["scheme"]["update"] == "stochastic" and found["scheme"]["scaling"] == "none"


def test_people_get_a_table(small_model: Path, small_data: Path) -> None:
    result = tinytrain("fit", small_model, "--data", small_data, *QUICK, "--seeds", 2, "--scheme", "all")
    assert result.exit_code == 0, result.stderr
    for part in ("seed 0", "seed 1", "before", "accuracy", "head start", "SRAM", "steps per second"):
        assert part in result.stdout
    assert "epoch 2/2" in result.stderr


def test_optimizer_and_loss_are_kinds_or_json(small_model: Path, small_data: Path) -> None:
    options = ("fit", small_model, "--data", small_data, *QUICK, "--no-head-start")
    found = document(*options, "--optimizer", '{"kind": "sgd", "weight_decay": 0.0}', "--loss", "cross_entropy")
    assert found["head_start"] is None and found["scheme"]["optimizer"]["kind"] == "sgd"
    assert "is no JSON" in refused(*options, "--optimizer", "{kind: sgd}")
    assert "there is no optimizer" in refused(*options, "--optimizer", "sdg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--augment", "spin"), "'spin' is no augmentation"), (("--scheme", "none.json"), "no scheme file"),
        (("--cache", "lots"), "not a memory size"), (("--gradients", "int4"), "int4"), (("--epochs", 0), "epochs"),
    ],
)  # fmt: skip
def test_refusals(small_model: Path, small_data: Path, options: tuple[object, ...], message: str) -> None:
    assert message in refused("fit", small_model, "--data", small_data, *options)


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_says_where_it_stopped(tmp_path: Path, small_model: Path, small_data: Path, kept: bool) -> None:
    command = [
        sys.executable, "-m", "tinytrain", "fit", str(small_model), "--data", str(small_data), "--epochs", "2000",
        "--no-head-start",
    ]  # fmt: skip
    state = tmp_path / "state"
    command += ["--checkpoint", str(state)] if kept else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    while "epoch 3/" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "error: interrupted" in errors and "the training with seed 0 stopped in epoch" in errors
    assert ("goes on from there" if kept else "nothing was kept") in errors
    assert (state / "seed-0.npz").exists() == kept
