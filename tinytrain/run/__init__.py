# SPDX-License-Identifier: Apache-2.0
"""A training run: the schedule, the emulated board that carries it out, and the host that repeats it bit for bit."""

from tinytrain.callable_package import make_callable
from tinytrain.run.commands import Session, prepare
from tinytrain.run.replay import Replay, replay
from tinytrain.run.report import EpochReport, RunReport
from tinytrain.run.schedule import SCHEDULES, Step, training_steps
from tinytrain.run.session import RunProgress, run_training

__all__ = [
    "SCHEDULES",
    "EpochReport",
    "Replay",
    "RunProgress",
    "RunReport",
    "Session",
    "Step",
    "prepare",
    "replay",
    "run_training",
    "training_steps",
]

make_callable(__name__)
