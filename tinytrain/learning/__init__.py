# SPDX-License-Identifier: Apache-2.0
"""Experiments: train a scheme on the host runtime, with the bits a board would have, and say what was learnt."""

from tinytrain.learning.fit import fit
from tinytrain.learning.report import FitEpoch, FitReport, SeedRun
from tinytrain.learning.run import FitProgress
from tinytrain.learning.task import Settings

__all__ = ["FitEpoch", "FitProgress", "FitReport", "SeedRun", "Settings", "fit"]
