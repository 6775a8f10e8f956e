# SPDX-License-Identifier: Apache-2.0
"""Every board boots, gives the same bits, and reports what it did."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinytrain.boards import Board, all_boards, load
from tinytrain.emulate import CommandStream, Progress, build, count_instructions, run, sections, stack_bound
from tinytrain.emulate.render import HANDLER_STACK_BYTES, STATIC_BYTES
from tinytrain.errors import BudgetError, DataError, EmulationError

pytestmark = pytest.mark.boards
Firmware = Callable[..., Path]

CLASSES, SHIFT = 3, 6


def oracle(samples: np.ndarray, steps: list[tuple[int, int]]) -> tuple[np.ndarray, list[int]]:
    """The fake model in numpy: its weights after these (sample, label) steps, and the loss of each."""
    x = samples.reshape(len(samples), -1).astype(np.int64)
    weights = ((np.arange(CLASSES * x.shape[1]) * 37) % 11 - 5).reshape(CLASSES, -1)
    losses = []
    for index, label in steps:
        margin = weights @ x[index] - (weights @ x[index])[label] + 65536
        gradient = (margin > 0).astype(np.int64)
        gradient[label] = 0
        losses.append(int((margin * gradient).sum()))
        gradient[label] = -gradient.sum()
        product = gradient[:, None] * x[index][None, :]
        weights = weights - np.sign(product) * (abs(product) >> SHIFT)  # C division truncates
    return weights, losses


STEPS = [(i % 30, i % CLASSES) for i in range(40)]


def stream_of_steps() -> CommandStream:
    stream = CommandStream().learning_rate(2.0**-SHIFT).seed(7)
    for index, label in STEPS:
        stream.train(index, label)
    return stream


@pytest.mark.parametrize("board", all_boards(), ids=lambda board: board.name)
def test_board_trains_to_the_oracles_bits(board: Board, firmware: Firmware, samples: np.ndarray) -> None:
    folder = firmware(board)
    stream = stream_of_steps()
    for index in range(30):
        stream.evaluate(index, 0)
    seen: list[Progress] = []
    report = run(folder, stream.logits(3), samples, progress=seen.append, progress_every=16)

    weights, losses = oracle(samples, STEPS)
    assert report.final.parameters_crc32 == binascii.crc32(weights.astype("<i2").tobytes())
    logits = weights @ samples.reshape(30, -1).astype(np.int64).T
    assert report.logits[0].tolist() == logits[:, 3].tolist()

    train, test = report.passes
    assert (train.kind, train.samples, [w.samples for w in train.windows]) == ("train", 40, [16, 16, 8])
    assert train.loss == pytest.approx(sum(losses) / 40 / 65536)
    assert (test.kind, test.samples, test.correct) == ("eval", 30, int((logits.argmax(0) == 0).sum()))
    assert [(p.kind, p.number, p.done, p.total) for p in seen[:3]] == [
        ("train", 0, 16, 40), ("train", 0, 32, 40), ("train", 0, 40, 40),
    ]  # fmt: skip

    bound = stack_bound(folder / "build" / "firmware.elf")
    assert report.final.arena_used == 92  # the fake model leaves the last 4 of 96 bytes alone
    assert 0 < report.final.stack_used <= bound.main
    assert 0 < report.final.handler_stack_used <= bound.handler <= HANDLER_STACK_BYTES


def test_a_report_may_be_asked_for_after_every_epoch(firmware: Firmware, samples: np.ndarray) -> None:
    stream = stream_of_steps().report()
    for index, label in STEPS:
        stream.train(index, label)
    report = run(firmware(load("mps2-an385")), stream, samples)
    halves = [oracle(samples, STEPS)[0], oracle(samples, STEPS + STEPS)[0]]
    crcs = [binascii.crc32(weights.astype("<i2").tobytes()) for weights in halves]
    assert [marks.parameters_crc32 for marks in report.marks] == crcs
    assert [each.samples for each in report.passes] == [40, 40]


def test_the_last_byte_of_the_arena_is_seen(firmware: Firmware, samples: np.ndarray) -> None:
    report = run(firmware(load("mps2-an385"), FAKE_ARENA_TOP="1"), stream_of_steps(), samples)
    assert report.final.arena_used == 96


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an500", "mps2-an505", "mps3-an547", "rp2040"])
def test_counts_are_exact_and_repeat(name: str, firmware: Firmware, samples: np.ndarray) -> None:
    """Loops of known length: their counts differ by exactly the instructions that were added, over many timer wraps."""
    loops = [1_000_000, 1_000_001, 9_999_999]
    counts = []
    for n in (*loops, loops[-1]):
        folder = firmware(load(name), FAKE_LOOPS=f"{n}u")
        counts.append(count_instructions(folder, samples[0], 2))
        folder.rename(folder.with_name(f"done-{len(counts)}"))
    rest = [count.rows[1].instructions - 2 * n for count, n in zip(counts, loops, strict=False)]
    assert len(set(rest)) == 1 and 30 < rest[0] < 120, rest
    assert len({count.train_step - 2 * n for count, n in zip(counts, loops, strict=False)}) == 1
    assert counts[2] == counts[3]


def test_counts_by_phase_add_up(firmware: Firmware, samples: np.ndarray) -> None:
    counts = count_instructions(firmware(load("mps2-an386")), samples[0], 2, learning_rate=2.0**-SHIFT)
    assert [row.phase for row in counts.rows] == ["forward", "loss", "update"]
    assert set(counts.phases) == {"forward", "loss", "update"}
    executor = counts.inference - counts.phases["forward"]
    assert 10 < executor < 100
    assert 10 < counts.train_step - sum(counts.phases.values()) < 200
    assert 2 < counts.apply < 10


def test_linked_sizes_add_up_and_the_harness_has_one_static(firmware: Firmware, samples: np.ndarray) -> None:
    elf = build(firmware(load("stm32f746"), stack=2048))
    sizes = sections(elf)
    assert (sizes.stack, sizes.handler_stack, sizes.data) == (2048, HANDLER_STACK_BYTES, 0)
    assert sizes.symbols["tt_arena"] == 96 and sizes.symbols["tt_parameters"] == 384
    model = {"tt_arena", "tt_parameters", "label", "rate_shift"}
    assert sum(size for name, size in sizes.symbols.items() if name not in model) == STATIC_BYTES
    assert sizes.bss == sum(sizes.symbols.values()), "gaps between objects"
    assert sizes.sram == 2048 + HANDLER_STACK_BYTES + sizes.bss
    assert 0 <= sizes.flash - (sizes.vectors + sizes.text + sizes.rodata) < 16, "alignment"


def test_a_board_may_be_narrowed_to_what_is_linked(firmware: Firmware, samples: np.ndarray) -> None:
    """It still runs, and 32 bytes less of SRAM do not link."""
    board = load("nrf52840")
    first = firmware(board)
    need = sections(build(first))
    first.rename(first.with_name("first"))
    sram, flash = (need.sram + 31) // 32 * 32, (need.flash + 31) // 32 * 32 + 64  # odd sizes: a longer MPU table
    second = firmware(board.narrowed(sram=sram, flash=flash))
    assert run(second, stream_of_steps(), samples).final.arena_used == 92
    second.rename(second.with_name("second"))
    with pytest.raises(BudgetError, match="exceeds SRAM by"):
        build(firmware(board.narrowed(sram=sram - 32)))


def test_bad_samples_are_refused_before_the_board_boots(firmware: Firmware, samples: np.ndarray) -> None:
    folder = firmware(load("mps2-an385"))
    with pytest.raises(DataError, match="int8"):
        run(folder, stream_of_steps(), samples.astype(np.uint8))
    with pytest.raises(DataError, match="sample 29"):
        run(folder, stream_of_steps(), samples[:20])


def test_the_firmware_refuses_what_it_was_not_built_for(firmware: Firmware, samples: np.ndarray) -> None:
    folder = firmware(load("mps2-an385"))
    with pytest.raises(EmulationError, match="samples of the wrong size"):
        run(folder, stream_of_steps(), samples[:, :4])
    with pytest.raises(EmulationError, match="tinytrain_train_step refused"):
        run(folder, CommandStream().train(0, 3), samples)
    with pytest.raises(EmulationError, match="tinytrain_set_learning_rate refused"):
        run(folder, CommandStream().learning_rate(4.0), samples)
