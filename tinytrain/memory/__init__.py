# SPDX-License-Identifier: Apache-2.0
"""Where every byte lives: lifetimes, arena layout with its lower bound, and the ledger."""

from tinytrain.memory.layout import Layout, lay_out
from tinytrain.memory.ledger import FlashLedger, SramLedger
from tinytrain.memory.lifetimes import ALIGNMENT, Lifetime, aligned, lifetimes

__all__ = ["ALIGNMENT", "FlashLedger", "Layout", "Lifetime", "SramLedger", "aligned", "lay_out", "lifetimes"]
