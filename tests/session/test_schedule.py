# SPDX-License-Identifier: Apache-2.0
"""Which sample when, at which rate."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.small import arrays
from tinytrain.data import Dataset, InputSpec
from tinytrain.emulate.protocol import Operation
from tinytrain.errors import DataError
from tinytrain.session.commands import prepare, spread
from tinytrain.session.schedule import training_steps

LABELS = np.arange(20) % 3


def test_every_epoch_sees_every_sample_once_in_a_new_order() -> None:
    steps = training_steps(LABELS, epochs=3, seed=4)
    orders = [[step.sample for step in steps if step.epoch == epoch] for epoch in range(3)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert all(step.label == LABELS[step.sample] for step in steps)
    assert steps == training_steps(LABELS, epochs=3, seed=4) != training_steps(LABELS, epochs=3, seed=5)


@pytest.mark.parametrize(
    ("epochs", "steps", "total"), [(2, None, 40), (None, 7, 7), (None, 45, 45), (1, 100, 20), (3, 25, 25)]
)
def test_a_run_ends_after_its_epochs_or_its_steps(epochs: int | None, steps: int | None, total: int) -> None:
    made = training_steps(LABELS, epochs=epochs, steps=steps)
    assert len(made) == total and made[-1].epoch == (total - 1) // 20


def test_cosine_climbs_and_falls_to_almost_nothing() -> None:
    rates = [step.rate for step in training_steps(LABELS, epochs=10, lr=0.1)]
    top = int(np.argmax(rates))
    assert 0.09 < max(rates) <= np.float32(0.1) and top == 10, "5 % of 200 updates are warm-up"
    assert all(a < b for a, b in pairwise(rates[: top + 1])) and all(a > b for a, b in pairwise(rates[top:]))
    assert 0 < rates[0] < 0.011 and 0 < rates[-1] < 1e-4
    assert all(rate == float(np.float32(rate)) for rate in rates), "what a board gets is a float32"


def test_constant_is_constant() -> None:
    assert {step.rate for step in training_steps(LABELS, epochs=2, lr=0.5, schedule="constant")} == {0.5}


def test_a_batch_has_one_rate_and_the_mean_of_its_gradients() -> None:
    steps = training_steps(LABELS, epochs=1, batch=8, lr=0.8, schedule="constant")
    assert [i for i, step in enumerate(steps) if step.ends_batch] == [7, 15, 19]
    assert [step.rate for step in steps[:16]] == [pytest.approx(0.1)] * 16
    assert [step.rate for step in steps[16:]] == [pytest.approx(0.2)] * 4, "the last batch is smaller"


def test_mirroring_is_only_done_where_asked() -> None:
    assert not any(step.flipped for step in training_steps(LABELS, epochs=2))
    flipped = [step.flipped for step in training_steps(LABELS, epochs=10, flip=True)]
    assert 60 < sum(flipped) < 140


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"), ({"steps": -1}, "steps is -1"), ({"epochs": 1, "batch": 0}, "batch is 0"),
        ({}, "needs"),
        ({"epochs": 1, "lr": float("nan")}, "learning rate"), ({"epochs": 1, "lr": -1.0}, "learning rate"),
        ({"epochs": 1, "lr": 1e39}, "learning rate"), ({"epochs": 1, "schedule": "line"}, "schedule 'line'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        training_steps(LABELS, **options)  # type: ignore[arg-type]


def dataset() -> Dataset:
    made = arrays(train=20, test=9)
    return Dataset(made["x_train"], made["y_train"], made["x_test"], made["y_test"], ("a", "b", "c"), "here")


SPEC = InputSpec((16, 16, 3), 2 / 255, 0)


def test_each_sample_is_sent_once_and_named_by_its_index() -> None:
    data = dataset()
    steps = training_steps(data.y_train, epochs=2, flip=True, seed=1)
    session = prepare(data, SPEC, steps, eval_count=3, seed=1, accumulates=False)
    trained = [(a, b) for operation, a, b in session.stream.records if operation == Operation.TRAIN]
    assert [label for _, label in trained] == [step.label for step in steps]
    for (index, _), step in zip(trained, steps, strict=True):
        image = data.x_train[step.sample][:, ::-1] if step.flipped else data.x_train[step.sample]
        assert np.array_equal(session.samples[index].astype(int) + 128, image)
    tested = [(a, b) for operation, a, b in session.stream.records if operation == Operation.EVALUATE]
    assert len(tested) == 6 and tested[:3] == tested[3:]
    assert session.stream.passes == [("eval", 3), ("train", 20), ("train", 20), ("eval", 3)]
    assert len(session.samples) == len({(step.sample, step.flipped) for step in steps}) + 3


def test_batches_are_applied_where_the_firmware_accumulates() -> None:
    data = dataset()
    steps = training_steps(data.y_train, epochs=1, batch=8)
    kinds = [
        operation
        for operation, _, _ in prepare(data, SPEC, steps, eval_count=0, seed=0, accumulates=True).stream.records
    ]
    assert kinds.count(Operation.APPLY) == 3 and kinds.count(Operation.RATE) <= 3
    assert Operation.EVALUATE not in kinds
    one = prepare(data, SPEC, training_steps(data.y_train, steps=2), eval_count=0, seed=0, accumulates=True)
    assert [operation for operation, _, _ in one.stream.records].count(Operation.APPLY) == 2


def test_test_samples_are_spread_over_data_that_is_sorted_by_class() -> None:
    assert spread(9, 3).tolist() == [0, 3, 6]
    assert spread(9, None).tolist() == spread(9, 100).tolist() == list(range(9))
    assert spread(9, 0).tolist() == []
    with pytest.raises(DataError, match="-1 test samples"):
        spread(9, -1)


def test_vectors_cannot_be_mirrored() -> None:
    x, y = np.zeros((8, 5), np.int8), np.zeros(8, np.int64)
    steps = training_steps(y, epochs=1, flip=True)
    with pytest.raises(DataError, match="cannot be mirrored"):
        prepare(
            Dataset(x, y, x, y, ("a",), ""), InputSpec((5,), 1.0, 0), steps, eval_count=0, seed=0, accumulates=False
        )


def test_step_is_a_tenth_after_each_third() -> None:
    rates = [step.rate for step in training_steps(LABELS, epochs=30, lr=0.1, schedule="step")]
    assert rates[30] == float(np.float32(0.1)) and all(a < b for a, b in pairwise(rates[:31]))
    np.testing.assert_allclose(rates[30:600:190], [0.1, 0.01, 0.001], rtol=2e-4)
    assert rates[219] == rates[30] and rates[220] < 0.0101


def test_a_step_knows_the_rate_of_its_update_and_the_size_of_its_batch() -> None:
    steps = training_steps(LABELS, epochs=1, batch=8, lr=0.8, schedule="constant")
    assert {step.update_rate for step in steps} == {float(np.float32(0.8))}
    assert [step.batch for step in steps] == [8] * 16 + [4] * 4
    assert all(step.rate == float(np.float32(step.update_rate / step.batch)) for step in steps)
    records = prepare(dataset(), SPEC, steps, eval_count=0, seed=0, accumulates=True).stream.records
    assert [b for operation, _, b in records if operation == Operation.RATE] == [8, 4]
