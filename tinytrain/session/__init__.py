# SPDX-License-Identifier: Apache-2.0
"""A training run: the schedule, the emulated board that carries it out, and the host that repeats it bit for bit."""

from tinytrain.session.commands import Session, prepare
from tinytrain.session.profile import Entry, Profile, ProfiledRow, profile_firmware
from tinytrain.session.replay import Replay, replay
from tinytrain.session.report import EpochReport, RunReport
from tinytrain.session.schedule import SCHEDULES, Step, training_steps
from tinytrain.session.session import RATE_PER_SAMPLE, RunProgress, run_training

__all__ = [
    "RATE_PER_SAMPLE",
    "SCHEDULES",
    "Entry",
    "EpochReport",
    "Profile",
    "ProfiledRow",
    "Replay",
    "RunProgress",
    "RunReport",
    "Session",
    "Step",
    "prepare",
    "profile_firmware",
    "replay",
    "run_training",
    "training_steps",
]
