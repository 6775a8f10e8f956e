# SPDX-License-Identifier: Apache-2.0
"""Runs of models that are no softmax classifiers: host and board agree, and a report says what there is to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tests.small import arrays, signals, write_auto_encoder
from tinytrain.errors import DataError, EmulationError
from tinytrain.session import RunProgress

pytestmark = pytest.mark.boards


@pytest.fixture(scope="module")
def auto_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_auto_encoder(tmp_path_factory.mktemp("model") / "auto.onnx")


def test_a_board_learns_to_reconstruct(auto_encoder: Path, tmp_path: Path) -> None:
    """Data without labels; losses, no accuracies."""
    data = tmp_path / "signals.npz"
    np.savez(data, x_train=signals(64), x_test=signals(8, seed=1))
    plan = tinytrain.plan(auto_encoder, board="nrf52840", data=data, scheme="all", loss="mean_squared_error")
    folder = tinytrain.export(plan, tmp_path / "firmware")
    seen: list[RunProgress] = []
    report = tinytrain.run(folder, data, epochs=3, lr=0.2, progress=seen.append)
    assert report.identical and report.parameters_crc32 == report.host_parameters_crc32
    assert report.loss_last < 0.6 * report.loss_first
    assert (report.evaluated, report.accuracy_before, report.accuracy_after) == (0, None, None)
    assert all(epoch.accuracy is None for epoch in report.epochs)
    assert {moment.stage for moment in seen} == {"build", "train", "count", "replay"}
    assert report.instructions is not None and report.instructions.phases["loss"] > 0
    assert report.linked == report.planned


def test_a_binary_head_is_evaluated_by_its_sign(small_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "two.npz"
    np.savez(data, **arrays(classes=2))
    loss = {"kind": "binary_cross_entropy", "label_smoothing": 0.05, "class_weights": [1.0, 1.5]}
    plan = tinytrain.plan(small_model, board="nrf52840", data=data, scheme="all", loss=loss)
    report = tinytrain.run(tinytrain.export(plan, tmp_path / "firmware"), data, epochs=4, lr=0.05, count=False)
    assert report.identical and report.evaluated == 21
    assert report.accuracy_after is not None and report.accuracy_before is not None
    assert report.accuracy_after > 0.9 > report.accuracy_before


def test_a_weighted_softmax_runs_alike(small_model: Path, small_data: Path, tmp_path: Path) -> None:
    loss = {"kind": "cross_entropy", "label_smoothing": 0.1, "class_weights": [1.0, 0.3, 4.0]}
    plan = tinytrain.plan(small_model, board="rp2040", data=small_data, scheme="head", loss=loss)
    report = tinytrain.run(tinytrain.export(plan, tmp_path / "firmware"), small_data, steps=24, count=False)
    assert report.identical


def test_given_targets_are_refused_in_a_run_and_by_the_board(
    small_model: Path, small_data: Path, tmp_path: Path
) -> None:
    loss = {"kind": "mean_squared_error", "target": "given"}
    plan = tinytrain.plan(small_model, board="nrf52840", scheme="head", loss=loss)
    folder = tinytrain.export(plan, tmp_path / "firmware")
    with pytest.raises(DataError, match="trained on given targets, which a run cannot send") as caught:
        tinytrain.run(folder, small_data)
    assert "tinytrain_train_target" in caught.value.fix
    samples = np.zeros((1, 16, 16, 3), np.int8)
    with pytest.raises(EmulationError, match="the commands carry no targets"):
        tinytrain.emulate.run(folder, tinytrain.emulate.CommandStream().train(0, 0), samples)
    inferred = tinytrain.emulate.run(folder, tinytrain.emulate.CommandStream().logits(0), samples)
    assert inferred.logits[0].shape == (3,)
