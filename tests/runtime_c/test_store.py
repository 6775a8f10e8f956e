# SPDX-License-Identifier: Apache-2.0
"""Saving and loading what was learned: whole or not at all, and only into the model it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.exported import BAD_STORE, OK, Exported
from tests.training import machine_of
from tests.twins import no_undefined_behaviour
from tinytrain.program import Space
from tinytrain.train import all_weights, training_graph

HEADER = 16


def build(folder: Path, seed: int, accumulate: bool = True) -> Exported:
    forward = nets.residual(seed)
    graph = training_graph(forward, all_weights(forward).but(classes=3, accumulate=accumulate))
    return Exported(folder, machine_of(graph).program).load_library()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return build(tmp_path_factory.mktemp("store"), 0)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same network with other weights: every size is the same."""
    return build(tmp_path_factory.mktemp("foreign"), 1)


@pytest.fixture
def model(exported: Exported, capfd: pytest.CaptureFixture[str]) -> Iterator[Exported]:
    with no_undefined_behaviour(capfd):
        exported.lib.tinytrain_init()
        yield exported


def learn(model: Exported, steps: int = 5, seed: int = 0) -> None:
    """Steps of which the last ones are still in the accumulators."""
    rng = np.random.default_rng(seed)
    model.lib.tinytrain_set_learning_rate(0.1)
    for step in range(steps):
        sample = rng.integers(-128, 128, (8, 8, 3)).astype(np.int8)
        assert model.train_step(sample, int(rng.integers(3))) == OK
        if step == 2:
            model.lib.tinytrain_apply()


def test_what_was_saved_is_what_is_loaded(model: Exported) -> None:
    initial = model.crc()
    learn(model)
    learned = model.crc()
    assert learned != initial and model.save() == OK
    store = bytes(model.store)
    model.lib.tinytrain_apply()
    applied = model.crc()
    model.lib.tinytrain_init()
    assert model.crc() == initial
    assert model.load(store) == OK and model.crc() == learned
    model.lib.tinytrain_set_learning_rate(0.1)
    model.lib.tinytrain_apply()
    assert model.crc() == applied, "accumulators were saved too"


def test_a_store_holds_parameters_masters_and_optimizer_behind_a_header(model: Exported) -> None:
    assert model.save() == OK
    sizes = model.program.sizes
    assert len(model.store) == HEADER + sizes[Space.PARAMETERS] + sizes[Space.MASTERS] + sizes[Space.OPTIMIZER]
    initial = model.program.images[Space.PARAMETERS].tobytes()
    assert bytes(model.store[HEADER:][: len(initial)]) == initial


def refused(model: Exported, store: bytes, status: int = BAD_STORE) -> None:
    """The load fails, and the model is as after tinytrain_init, whatever it had learned."""
    model.lib.tinytrain_init()
    initial = model.crc()
    assert model.save() == OK
    everything = bytes(model.store)
    learn(model, seed=9)
    assert model.crc() != initial
    assert model.load(store) == status
    assert model.crc() == initial
    assert model.save() == OK and bytes(model.store) == everything


@pytest.mark.parametrize("byte", [0, 4, 8, 12, HEADER, HEADER + 1000, -1])
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_damaged_store_is_refused_and_the_model_is_as_new(model: Exported, byte: int, flip: int) -> None:
    learn(model)
    assert model.save() == OK
    store = bytearray(model.store)
    store[byte] ^= flip
    refused(model, bytes(store))


@pytest.mark.parametrize("kept", [0, HEADER - 1, HEADER, HEADER + 100])
def test_a_store_that_ends_early_is_refused_with_the_hooks_status(model: Exported, kept: int) -> None:
    learn(model)
    assert model.save() == OK
    refused(model, bytes(model.store[:kept]), status=78)


def test_the_store_of_another_model_is_refused(model: Exported, foreign: Exported) -> None:
    learn(foreign)
    assert foreign.save() == OK
    store = bytes(foreign.store)
    assert foreign.program.sizes == model.program.sizes
    refused(model, store)


def test_flash_that_was_never_written_is_refused(model: Exported) -> None:
    assert model.save() == OK
    for filling in (0x00, 0xFF):
        refused(model, bytes([filling]) * len(model.store))


@pytest.mark.parametrize("room", [0, HEADER, HEADER + 500])
def test_a_save_that_runs_out_of_room_returns_the_hooks_status(model: Exported, room: int) -> None:
    learn(model)
    before = model.crc()
    assert model.save(fail_after=room) == 77
    assert len(model.store) <= room and model.crc() == before
