# SPDX-License-Identifier: Apache-2.0
"""A tensor: what it holds, how its integers map to reals, and where its bytes live."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# bits per element; a "bit" tensor is packed, eight elements to a byte
DTYPES = {"bit": 1, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "float32": 32}


class Role(enum.StrEnum):
    """Where a tensor's bytes live (design, section 3)."""

    CONSTANT = "constant"  # flash
    PARAMETER = "parameter"  # SRAM: trained weights and biases
    MASTER = "master"  # SRAM: the fractional bits kept beside a trained int8 weight or int32 bias
    OPTIMIZER = "optimizer"  # SRAM: accumulators, gradient exponents
    STATE = "state"  # SRAM, runtime statics: learning rate, seed, label, loss
    ACTIVATION = "activation"  # arena, for its lifetime
    GRADIENT = "gradient"  # arena
    MASK = "mask"  # arena, one bit per element
    SCRATCH = "scratch"  # arena, for one kernel call

    @property
    def in_arena(self) -> bool:
        return self in (Role.ACTIVATION, Role.GRADIENT, Role.MASK, Role.SCRATCH)

    @property
    def persistent(self) -> bool:
        """Lives in SRAM from one step to the next."""
        return self in (Role.PARAMETER, Role.MASTER, Role.OPTIMIZER, Role.STATE)


@dataclass(frozen=True)
class Quantization:
    """real = scale * (integer - zero_point).

    scale: float64 array, one element (per tensor) or one per channel along `axis`
    zero_point: int; 0 where scale is per channel
    """

    scale: np.ndarray
    zero_point: int = 0
    axis: int | None = None

    @staticmethod
    def per_tensor(scale: float, zero_point: int = 0) -> Quantization:
        return Quantization(np.asarray([scale], np.float64), int(zero_point))

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.atleast_1d(np.asarray(self.scale, np.float64)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantization):
            return NotImplemented
        return (
            self.zero_point == other.zero_point and self.axis == other.axis and np.array_equal(self.scale, other.scale)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Exponent:
    """The power of two of a block floating point tensor: real = mantissa * 2 ** (state[0] + offset).

    state: name of an int32[3] tensor {exponent, peak mantissa, peak exponent}, or None for the constant `offset`
    """

    state: str | None = None
    offset: int = 0

    def shifted(self, by: int) -> Exponent:
        return Exponent(self.state, self.offset + by)


@dataclass(frozen=True)
class Tensor:
    """name, shape (without a batch dimension; images are [H, W, C]), dtype, meaning and home of a tensor.

    data:     the value of a constant, or the initial value of a persistent tensor
    alias_of: the tensor whose bytes this one takes over (a view, or the next version of an updated parameter)
    master, accumulator: of a trained parameter, the names of its fractional bits and of its gradient accumulator
    truncates: of a trained parameter without a master: whether its updates are rounded toward zero
    rule: of a trained parameter, how its gradient changes it: "sgd", or an operator "<rule>_update"
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role = Role.ACTIVATION
    quantization: Quantization | None = None
    data: np.ndarray | None = field(default=None, repr=False, compare=False)
    exponent: Exponent | None = None
    alias_of: str | None = None
    master: str | None = None
    accumulator: str | None = None
    truncates: bool = False
    rule: str = "sgd"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return (self.size * DTYPES[self.dtype] + 7) // 8

    @property
    def scale(self) -> float:
        """The per-tensor scale."""
        assert self.quantization is not None and self.quantization.scale.size == 1, self.name
        return float(self.quantization.scale[0])

    @property
    def zero_point(self) -> int:
        assert self.quantization is not None, self.name
        return self.quantization.zero_point

    def but(self, **changes: Any) -> Tensor:
        """A copy with some fields replaced."""
        return replace(self, **changes)
