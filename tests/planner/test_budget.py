# SPDX-License-Identifier: Apache-2.0
"""Budgets: what does not fit is refused by bytes and node with a remedy; the ledger sums up what is linked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tinytrain.boards import Board, load
from tinytrain.emulate import build, sections
from tinytrain.errors import BudgetError, DataError
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
from tinytrain.planner import Plan, export_plan, make_plan
from tinytrain.planner.budget import ASSUMED, account
from tinytrain.planner.make import Samples
from tinytrain.program import Space
from tinytrain.train import LayerUpdate, Scheme, all_weights, trainable_layers, training_graph

MISSING = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc"), reason="needs arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi"
)


def below(total: int) -> int:
    """The largest budget a board can be narrowed to that is smaller than this."""
    return (total - 1) // 32 * 32


def total_of(model: Path, board: Board, scheme: Scheme) -> int:
    return account(training_graph(load_model(model), scheme), board).sram.total


@pytest.mark.usefixtures("unlinked")
def test_too_little_sram_for_anything_says_how_much_where_and_what_helps(
    model: Path, samples: Samples, board: Board
) -> None:
    least = total_of(model, board, Scheme())
    with pytest.raises(BudgetError) as caught:
        make_plan(model, board.narrowed(sram=2048), samples=samples)
    error = caught.value
    match = re.fullmatch(r"the smallest possible plan needs ([\d,]+) bytes more SRAM than the board has", error.what)
    assert match and int(match[1].replace(",", "")) == least - 2048
    assert re.search(r"peak at node \d+ '\w+' \(forward\): [\d,]+ B live", error.why)
    assert "2,048 B of SRAM" in error.where
    assert error.fix == "raise --sram or --flash: the nrf52840 itself has more"
    make_plan(model, board.narrowed(sram=below(least) + 32), samples=samples, scheme=Scheme())


@pytest.mark.usefixtures("unlinked")
def test_a_scheme_that_is_too_large_says_what_would_make_it_smaller(
    model: Path, samples: Samples, board: Board
) -> None:
    whole = all_weights(load_model(model))
    total = total_of(model, board, whole)
    with pytest.raises(BudgetError, match=f"this scheme needs {total - below(total)} bytes more SRAM") as caught:
        make_plan(model, board.narrowed(sram=below(total)), samples=samples, scheme=whole)
    assert "--update stochastic saves" in caught.value.fix and "leave the scheme to the planner" in caught.value.fix
    # and what it proposes helps
    make_plan(model, board.narrowed(sram=below(total)), samples=samples, scheme=whole, update="stochastic")
    make_plan(model, board.narrowed(sram=below(total)), samples=samples)


@pytest.mark.usefixtures("unlinked")
def test_no_board_is_large_enough_says_so(
    model: Path, samples: Samples, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = board.narrowed(sram=2048)
    monkeypatch.setattr("tinytrain.planner.budget.all_boards", lambda: [])
    monkeypatch.setattr("tinytrain.planner.budget.load_board", lambda name: tiny)
    with pytest.raises(BudgetError) as caught:
        make_plan(model, tiny, samples=samples)
    assert caught.value.fix == "a model with a smaller input"


@pytest.mark.usefixtures("unlinked")
def test_another_board_is_proposed_where_the_own_one_is_too_small(
    model: Path, samples: Samples, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = board.narrowed(sram=2048)
    monkeypatch.setattr("tinytrain.planner.budget.load_board", lambda name: tiny)
    with pytest.raises(BudgetError) as caught:
        make_plan(model, tiny, samples=samples)
    proposed = load(re.fullmatch(r"--board (\S+)", caught.value.fix)[1])
    make_plan(model, proposed, samples=samples)


@MISSING
def test_too_little_flash_says_how_much(model: Path, samples: Samples, board: Board) -> None:
    with pytest.raises(BudgetError, match=r"needs [\d,]+ bytes more flash than the board has") as caught:
        make_plan(model, board.narrowed(flash=8 * 1024), samples=samples, scheme=Scheme())
    assert "code" in caught.value.why and "constants" in caught.value.why


@MISSING
def test_the_chosen_plan_fits_and_a_planned_byte_is_a_linked_byte(plan: Plan, tmp_path: Path) -> None:
    assert plan.sram.total <= 7 * 1024 and plan.scheme.layers
    linked = sections(build(export_plan(plan, tmp_path / "firmware")))
    assert linked.flash == plan.flash.total
    assert linked.data + linked.bss == plan.sram.total - plan.sram.stack


def test_the_ledger_is_made_of_the_programs_spaces(model: Path, board: Board) -> None:
    forward = load_model(model)
    found = account(training_graph(forward, all_weights(forward).but(accumulate=True)), board)
    sizes = found.program.sizes
    assert (found.sram.arena, found.sram.parameters, found.sram.masters, found.sram.optimizer) == tuple(
        sizes[space] for space in (Space.ARENA, Space.PARAMETERS, Space.MASTERS, Space.OPTIMIZER)
    )
    assert found.sram.statics == ASSUMED.statics + sizes[Space.STATE] + -sizes[Space.ARENA] % 8
    assert (
        found.sram.total
        == sum(sizes[space] for space in sizes if space is not Space.CONSTANTS) + -sizes[Space.ARENA] % 8 + 16 + 1024
    )
    # only what does not start at zero needs an image in flash
    assert found.flash.store == sum(image.nbytes for image in found.program.images.values() if image.any())
    assert not found.program.images[Space.MASTERS].any()


@pytest.mark.usefixtures("unlinked")
def test_without_a_cross_compiler_the_plan_says_what_it_assumes(model: Path, samples: Samples, board: Board) -> None:
    made = make_plan(model, board, samples=samples, scheme=Scheme())
    assert made.flash.code is None and made.flash.total is None
    assert made.notes and "arm-none-eabi-gcc" in made.notes[0]


# --- what data decides ---


@pytest.mark.usefixtures("unlinked")
def test_labels_outside_the_classes_are_refused(model: Path, samples: Samples, board: Board) -> None:
    with pytest.raises(DataError, match="the data has a label 2, but there are 2 classes"):
        make_plan(model, board, samples=samples, scheme=Scheme(), classes=2)


@pytest.mark.usefixtures("unlinked")
def test_the_data_decides_whether_there_is_a_new_head(model: Path, samples: Samples, board: Board) -> None:
    own = make_plan(model, board, samples=samples, scheme=Scheme())
    assert (own.scheme.classes, own.classes) == (None, 3)
    two = Samples(samples.x, samples.y % 2)
    assert make_plan(model, board, samples=two, scheme=Scheme()).classes == 2
    many = Samples(samples.x, samples.y, 10)
    assert make_plan(model, board, samples=many, scheme=Scheme()).scheme.classes == 10
    assert make_plan(model, board, scheme=Scheme(classes=4)).classes == 4


@pytest.mark.usefixtures("unlinked")
def test_choosing_a_scheme_needs_data(model: Path, board: Board) -> None:
    with pytest.raises(DataError, match="choosing a scheme needs data") as caught:
        make_plan(model, board)
    assert "--scheme" in caught.value.fix


def arenas(forward: Graph, scheme: Scheme) -> list[int]:
    """Bytes of the arena with gradients of 16 and of 8 bits."""
    board = load("stm32h743")
    found = [account(training_graph(forward, scheme.but(gradients=width)), board) for width in ("int16", "int8")]
    assert found[1].sram.total < found[0].sram.total, "the exponents that means and average pools gain are few"
    return [ledger.sram.arena for ledger in found]


@pytest.mark.parametrize("accumulate", [False, True])
def test_eight_bit_gradients_make_the_arena_smaller(residual: Graph, accumulate: bool) -> None:
    """Much where the backward part is the peak: of layers that train a bias nothing but masks is kept.

    In a network this small the scratch of convolutions, which is the same for both, is a good part of the rest.
    """
    wide, narrow = arenas(residual, all_weights(residual).but(accumulate=accumulate))
    assert narrow < 0.85 * wide
    biases = Scheme({node.name: LayerUpdate(bias=True) for node in trainable_layers(residual)}, accumulate=accumulate)
    wide, narrow = arenas(residual, biases)
    assert narrow < 0.7 * wide


def test_mcunet_trains_every_bias_in_256_kb_with_eight_bit_gradients() -> None:
    """With every weight, too, it takes less; there the stored activations are most of the arena."""
    forward = load_model(Path(__file__).resolve().parents[2] / "examples" / "data" / "mcunet-5fps.onnx")
    wide, narrow = arenas(forward, Scheme({node.name: LayerUpdate(bias=True) for node in trainable_layers(forward)}, 3))
    assert wide > 256 * 1024 > 1.2 * narrow
    wide, narrow = arenas(forward, all_weights(forward).but(classes=3))
    assert narrow < wide - 14_000
