# SPDX-License-Identifier: Apache-2.0
"""Plans with an optimizer: through plan.json and export to a board, the same bits, every byte where it was planned."""

from __future__ import annotations

from pathlib import Path

import pytest

import tinytrain
from tests.small import CLASSES
from tinytrain import emulate

pytestmark = [pytest.mark.boards, pytest.mark.slow]

ADAM = {"kind": "adam", "weight_decay": 0.01, "clip": 4.0}
CASES = {
    "adam": ({"optimizer": ADAM, "update": "stochastic"}, "mps2-an385", 1, "cosine"),
    "adam, some states, batches": (
        {"optimizer": {**ADAM, "stateful": 0.5}, "accumulate": True}, "mps2-an500", 4, "step",
    ),
    "momentum": ({"optimizer": "momentum"}, "mps2-an386", 1, "cosine"),
    "momentum, batches": ({"optimizer": "momentum", "accumulate": True}, "mps3-an547", 3, "constant"),
    "lion": ({"optimizer": {"kind": "lion", "weight_decay": 0.1}}, "rp2040", 1, "step"),
}  # fmt: skip
RATES = {"adam": 0.002, "momentum": 0.01, "lion": 0.0005}


@pytest.mark.parametrize("case", CASES)
def test_a_board_and_its_host_end_with_the_same_bits(
    case: str,
    small_model: Path,
    small_data: Path,
    tmp_path: Path,
) -> None:
    scheme, board, batch, schedule = CASES[case]
    layers = {"layer0": {"bias": True}, "layer1": {"weights": "all"}, "layer2": {"bias": True, "weights": "all"}}
    scheme = {"layers": layers, "classes": CLASSES, **scheme}
    plan = tinytrain.plan(small_model, board=board, data=small_data, scheme=scheme)
    plan.save(tmp_path / "plan.json")
    folder = tinytrain.export(tmp_path / "plan.json", tmp_path / "firmware")
    report = tinytrain.run(
        folder, small_data, epochs=2, batch=batch, lr=RATES[case.split(",")[0]], schedule=schedule, eval_count=9
    )
    assert report.difference is None and report.parameters_crc32 == report.host_parameters_crc32
    sizes = emulate.sections(folder / "build" / "firmware.elf")
    assert plan.sram.total == sizes.sram and plan.sram.optimizer == sizes.symbols["tt_optimizer"]
    assert plan.flash.total == sizes.flash
