# SPDX-License-Identifier: Apache-2.0
"""Planning for other losses: what the data decides, what is measured, and that a plan keeps its loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tests.small import signals, write_auto_encoder
from tests.training import machine_of
from tinytrain.boards import Board
from tinytrain.data import InputSpec, quantize_samples
from tinytrain.errors import DataError, SchemeError
from tinytrain.frontends import load_model
from tinytrain.planner import Plan, make_plan
from tinytrain.planner.importance import Answers, fisher, train_head
from tinytrain.planner.make import Samples
from tinytrain.train import Loss, Scheme, all_weights, training_graph

pytestmark = pytest.mark.usefixtures("unlinked")
BINARY, RECONSTRUCT = Loss("binary_cross_entropy"), Loss("mean_squared_error")
GIVEN = Loss("mean_squared_error", target="given")


@pytest.fixture(scope="module")
def auto_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_auto_encoder(tmp_path_factory.mktemp("model") / "auto.onnx")


@pytest.fixture(scope="module")
def quiet(auto_encoder: Path) -> Samples:
    x = quantize_samples(signals(60), InputSpec.of(load_model(auto_encoder)))
    return Samples(x, np.zeros(60, np.int64))


def test_two_classes_get_one_output_and_the_planner_chooses(model: Path, samples: Samples, board: Board) -> None:
    two = Samples(samples.x, samples.y % 2)
    made = make_plan(model, board, samples=two, loss=BINARY)
    assert (made.classes, made.scheme.classes, made.kind) == (1, 1, "2 classes")
    assert made.scheme.layers
    with pytest.raises(DataError, match="the data has a label 2, but there are 2 classes"):
        make_plan(model, board, samples=samples, loss=BINARY)


def test_an_auto_encoder_is_planned_without_labels(auto_encoder: Path, quiet: Samples, board: Board) -> None:
    made = make_plan(auto_encoder, board, samples=quiet, loss=RECONSTRUCT)
    assert (made.scheme.classes, made.kind) == (None, "24 outputs")
    assert set(made.scheme.layers) == {"encode"}, "the whole of a small model fits"
    assert "logits.gradient" in made.exponents, "the loss's gradient has a delayed exponent, which was measured"


@pytest.mark.parametrize("loss", [BINARY, RECONSTRUCT, GIVEN, Loss("cross_entropy", 0.1, (1.0, 2.0, 0.5))])
def test_a_saved_plan_keeps_its_loss(loss: Loss, model: Path, auto_encoder: Path, board: Board, tmp_path: Path) -> None:
    file = auto_encoder if loss == RECONSTRUCT else model
    made = make_plan(file, board, scheme=all_weights, loss=loss)
    made.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again.scheme == made.scheme and again.scheme.loss == loss
    assert [row.kernel for row in again.program().rows] == [row.kernel for row in made.program().rows]


def test_given_targets_are_measured_where_samples_have_them(model: Path, samples: Samples, board: Board) -> None:
    targets = np.random.default_rng(0).normal(0, 3, (60, 2))
    made = make_plan(model, board, samples=Samples(samples.x, samples.y, None, targets), loss=GIVEN, classes=2)
    assert made.scheme.layers and made.exponents and made.kind == "2 outputs"
    with pytest.raises(DataError, match="choosing a scheme for given targets needs targets"):
        make_plan(model, board, samples=samples, loss=GIVEN)
    assert make_plan(model, board, samples=samples, scheme=Scheme(), loss=GIVEN).exponents == {}


def test_importance_is_that_of_the_loss(model: Path, samples: Samples) -> None:
    """A sample of a class of weight 0.001 hardly counts: importance falls with the square of a weight."""
    forward = load_model(model)
    weights = (1.0, 1.0, 1.0), (0.25, 0.25, 0.25)
    found = [fisher(forward, Scheme(loss=Loss(class_weights=w)), samples.x, samples.y, seed=0) for w in weights]
    for layer in found[0]:
        ratio = found[1][layer].channels.sum() / found[0][layer].channels.sum()
        assert 1 / 64 < ratio < 1 / 4, "1 / 16, but for a head that was trained by smaller steps"


@pytest.mark.parametrize("brightness", [-100, 0, 100])
def test_the_head_of_a_regression_is_trained_at_a_rate_that_its_features_allow(
    brightness: int, model: Path, samples: Samples
) -> None:
    """Whatever the size of the features: a rate for small ones diverges on large ones."""
    forward = load_model(model)
    x = np.clip(samples.x.astype(np.int64) // 2 + brightness, -128, 127).astype(np.int8)
    targets = np.stack([x.reshape(60, -1).mean(axis=1) / 64, np.full(60, 0.5)], axis=1)
    scheme = Scheme(loss=GIVEN, classes=2)
    machine = machine_of(training_graph(forward, scheme))

    def loss() -> float:
        return float(np.mean([machine.train_step(sample, target=t)[0] for sample, t in zip(x, targets)]))

    before = loss()
    head = train_head(forward, scheme, Answers(x, samples.y, targets), np.arange(60), None)
    for name, value in head.items():
        machine.view(name)[...] = value
    assert loss() < 0.6 * before


def test_the_api_takes_a_loss_by_name_or_as_json(auto_encoder: Path, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "signals.npz", x_train=signals(40), x_test=signals(8, seed=1))
    made = tinytrain.plan(
        auto_encoder, board="nrf52840", data=tmp_path / "signals.npz", scheme="all", loss="mean_squared_error"
    )
    assert made.scheme.loss == RECONSTRUCT
    smooth = {"kind": "cross_entropy", "label_smoothing": 0.1}
    assert tinytrain.plan(model, board="nrf52840", scheme="head", loss=smooth).scheme.loss.label_smoothing == 0.1
    in_scheme = {"layers": {}, "loss": {"kind": "mean_squared_error"}}
    made = tinytrain.plan(auto_encoder, board="nrf52840", data=tmp_path / "signals.npz", scheme=in_scheme)
    assert made.scheme.loss == RECONSTRUCT, "data without labels will do, for the scheme's loss needs none"
    with pytest.raises(SchemeError, match="there is no loss 'hinge'"):
        tinytrain.plan(model, board="nrf52840", scheme="head", loss="hinge")
