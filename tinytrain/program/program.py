# SPDX-License-Identifier: Apache-2.0
"""The Program: what the host executes and what the exporters print."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytrain.graph import Phase, Tensor


class Space(enum.StrEnum):
    """Where bytes are: the arena, three kinds of persistent SRAM, the runtime's state, and flash."""

    ARENA = "arena"
    PARAMETERS = "parameters"
    MASTERS = "masters"
    OPTIMIZER = "optimizer"
    STATE = "state"
    CONSTANTS = "constants"


@dataclass(frozen=True)
class Location:
    """`offset` bytes into a space; of CONSTANTS, the index of an Array."""

    space: Space
    offset: int


@dataclass(frozen=True)
class Pointer:
    """An argument that is an address; None is NULL."""

    location: Location | None


@dataclass(frozen=True)
class StructArray:
    """An argument that is the address of a const array of structs."""

    struct: str
    items: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Array:
    """A constant in flash."""

    name: str
    data: np.ndarray


@dataclass(frozen=True)
class Row:
    """One kernel call: `args` maps the fields of struct <kernel>_args to int, Pointer, StructArray or nested dicts.

    reads, writes: elements in the arena that the node reads, and elements of its outputs
    room:          share that the kernel gets of the scratch with which it is fastest
    """

    kernel: str
    args: Mapping[str, Any]
    phase: Phase
    node: str
    origin: str
    macs: int
    reads: int
    writes: int
    room: float

    @property
    def label(self) -> str:
        """The kernel with its window and stride, on which depends what a multiply-accumulate costs."""
        window = self.args.get("window")
        if not window:
            return self.kernel
        strides = window["stride_height"], window["stride_width"]
        stride = "" if strides == (1, 1) else f" s{'x'.join(map(str, dict.fromkeys(strides)))}"
        return f"{self.kernel} {window['kernel_height']}x{window['kernel_width']}{stride}"


@dataclass
class Program:
    """rows in execution order, the constants they point to, and the sizes and initial images of the SRAM spaces.

    tensors and locations cover every tensor that has an address, for tools that look inside.
    """

    name: str
    rows: list[Row]
    constants: list[Array]
    sizes: dict[Space, int]
    images: dict[Space, np.ndarray]
    tensors: dict[str, Tensor]
    locations: dict[str, Location]
    input: str
    output: str

    @property
    def outputs(self) -> int:
        """Values the model computes."""
        return self.tensors[self.output].size

    @property
    def labels(self) -> int:
        """Labels a training step may be given, from 0: one per output, two of a binary classifier, or 0 for none."""
        if "label" not in self.tensors:
            return 0
        return 2 if self.outputs == 1 else self.outputs

    @property
    def needs_target(self) -> bool:
        """Whether a training step is given the values that its outputs are compared with."""
        return "target" in self.tensors

    @property
    def constant_bytes(self) -> int:
        """Bytes of constant arrays (the tables of rows and arguments come on top)."""
        return sum(array.data.nbytes for array in self.constants)

    @property
    def kernels(self) -> list[str]:
        """Names of the kernels in use, sorted."""
        return sorted({row.kernel for row in self.rows})
