# SPDX-License-Identifier: Apache-2.0
"""A training step as a list of kernel calls with fixed addresses: lowering from a graph and its arena layout."""

from tinytrain.program.lower import lower
from tinytrain.program.program import Array, Location, Pointer, Program, Row, Space, StructArray

__all__ = ["Array", "Location", "Pointer", "Program", "Row", "Space", "StructArray", "lower"]
