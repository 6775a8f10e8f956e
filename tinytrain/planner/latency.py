# SPDX-License-Identifier: Apache-2.0
"""Time on a real part, estimated: instructions times the core's cycles per instruction, over its clock.

Never a measurement. The Cortex-M7's figure is calibrated on one measured step; the others are assumptions, from what
Arm documents of each core with memory that never makes it wait. Flash and SRAM of real parts often do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinytrain.boards import Board

# "On-Device Training Under 256KB Memory" (NeurIPS 2022): a step of MCUNet on an STM32F746; instructions: of the same
# work, Tiny Training Engine counted in QEMU (benchmarks/peers.json)
MEASURED_MS, MEASURED_HZ, MEASURED_INSTRUCTIONS = 546, 216_000_000, 106_370_000
CALIBRATED = MEASURED_MS / 1000 * MEASURED_HZ / MEASURED_INSTRUCTIONS


@dataclass(frozen=True)
class Pace:
    """Cycles per instruction of a core, and why."""

    cycles: float
    basis: str


PACES = {
    "cortex-m7": Pace(
        round(CALIBRATED, 3),
        f"calibrated: {MEASURED_MS} ms measured for a step of MCUNet on an STM32F746 at 216 MHz (Lin et al. 2022), "
        f"{MEASURED_INSTRUCTIONS / 1e6:.2f} M instructions counted for the same work",
    ),
    "cortex-m4": Pace(
        1.6,
        "assumed from the cycle table of Arm's manual (100166, 3.3.1): a loop of 8 SMLAD (1 cycle each), 3 LDRD (3), "
        "SUBS (1) and a taken branch (3) is 21 cycles for 13 instructions",
    ),
    "cortex-m3": Pace(
        1.7,
        "assumed from the cycle table of Arm's manual (DDI 0337, 3.3.1): two loads back to back (3 cycles) and an "
        "MLA (2) are 5 cycles for 3 instructions",
    ),
    "cortex-m33": Pace(
        1.4,
        "assumed: the Cortex-M7's, times the ratio of the CoreMark/MHz that Arm states, 5.01 and 4.02; the manual has "
        "no cycle table",
    ),
    "cortex-m55": Pace(
        1.5,
        "assumed: a vector instruction takes two cycles (two beats each), of which one is hidden where loads and "
        "multiplications alternate, which is taken to be so half of the time",
    ),
    "cortex-m0plus": Pace(
        1.4,
        "assumed from the cycle table of Arm's manual (DDI 0484, 3.3): loads, stores and taken branches, taken to be "
        "two fifths of all, take 2 cycles, everything else 1, multiplications included",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Latency:
    """Milliseconds, estimated; `basis` says from what."""

    inference_ms: float
    train_step_ms: float
    core_hz: int
    cycles_per_instruction: float
    basis: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "estimate": True,
            "inference_ms": round(self.inference_ms, 3),
            "train_step_ms": round(self.train_step_ms, 3),
            "core_hz": self.core_hz,
            "cycles_per_instruction": self.cycles_per_instruction,
            "basis": self.basis,
        }


def latency(board: Board, inference: int, train_step: int) -> Latency | None:
    """Of an inference and a step of so many instructions; None for a core or a clock that nobody has stated."""
    pace = PACES.get(board.core)
    if pace is None or not board.core_hz:
        return None
    inference_ms, step_ms = (1000 * count * pace.cycles / board.core_hz for count in (inference, train_step))
    return Latency(inference_ms, step_ms, board.core_hz, pace.cycles, pace.basis)
