# SPDX-License-Identifier: Apache-2.0
"""Planning: what to train under a memory budget, and the exact account of the bytes it takes."""

from tinytrain.callable_package import make_callable
from tinytrain.plan.export import export_plan
from tinytrain.plan.make import make_plan
from tinytrain.plan.plan import Plan

__all__ = ["Plan", "export_plan", "make_plan"]

make_callable(__name__)
