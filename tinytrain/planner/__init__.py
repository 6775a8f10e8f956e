# SPDX-License-Identifier: Apache-2.0
"""Planning: what to train under a memory budget, and the exact account of the bytes it takes."""

from tinytrain.planner.export import export_plan
from tinytrain.planner.make import make_plan
from tinytrain.planner.plan import Plan

__all__ = ["Plan", "export_plan", "make_plan"]
