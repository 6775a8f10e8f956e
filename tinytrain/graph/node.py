# SPDX-License-Identifier: Apache-2.0
"""A node: one application of an operator."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class Phase(enum.IntEnum):
    """The parts of a training step; inference is FORWARD alone. The numbers are those of enum tt_phase in C."""

    FORWARD = 0
    SAVE = 1  # during the forward part, only while training: masks, kept slices
    LOSS = 2
    BACKWARD = 3
    UPDATE = 4
    APPLY = 5  # once per batch: accumulated gradients into the parameters


@dataclass(frozen=True)
class Node:
    """op: registered operator name; inputs, outputs: tensor names; attrs: what the operator's file documents.

    `phase` says when a node runs (see Phase). `origin` names the layer of the model file that this node comes from:
    forward, gradient and update nodes of one layer share it, and reports and refusals use it.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    phase: Phase = Phase.FORWARD

    def but(self, **changes: Any) -> Node:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def with_attrs(self, **attrs: Any) -> Node:
        """A copy with some attributes replaced."""
        return replace(self, attrs={**self.attrs, **attrs})
