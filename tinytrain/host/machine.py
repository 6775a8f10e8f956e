# SPDX-License-Identifier: Apache-2.0
"""A Program loaded into memory of this process."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinytrain.errors import DataError
from tinytrain.graph import Phase
from tinytrain.host.runtime import Runtime, runtime
from tinytrain.ops.arithmetic import LearningRate
from tinytrain.program import Location, Pointer, Program, Space, StructArray

STEP = (Phase.FORWARD, Phase.SAVE, Phase.LOSS, Phase.BACKWARD, Phase.UPDATE)


class Machine:
    """SRAM, flash and the table of rows of one Program, executed by the C runtime.

    Every space of the program is one numpy array here; rows point into them, as they do into a board's memory.
    """

    def __init__(self, program: Program, library: Runtime | None = None) -> None:
        """library: the compiled kernels; by default those for this processor."""
        self.program = program
        self._runtime = library or runtime()
        self._keep: list[Any] = []
        self.memory: dict[Space, np.ndarray] = {
            space: _aligned_zeros(program.sizes[space]) for space in Space if space is not Space.CONSTANTS
        }
        self._constants = [_aligned_copy(array.data) for array in program.constants]
        self._rows = self._load()
        self._parts: dict[tuple[int, int | None], Any] = {}
        self.reset()

    # --- execution ---

    def reset(self) -> None:
        """Persistent memory to its initial values."""
        for space, image in self.program.images.items():
            self.memory[space][:] = image

    def run(self, phases: Iterable[Phase], first: int = 0, end: int | None = None) -> None:
        """Execute the rows of the given phases; `first` and `end` narrow them to rows first .. end - 1."""
        self._runtime.lib.tt_run(self._rows_of(first, end), sum(1 << phase for phase in phases))

    def infer(self, sample: np.ndarray) -> np.ndarray:
        """Forward only: the output tensor's value (a copy)."""
        self.set_input(sample)
        return self.forward()

    def forward(self, first: int = 0) -> np.ndarray:
        """`infer` for a sample that is loaded already: from row `first` on, where the rows before it have run."""
        self.run((Phase.FORWARD,), first)
        return self.read(self.program.output)

    def predict(self, sample: np.ndarray) -> int:
        """Forward only: the class of the largest logit, of a single one logit > 0; 0 where there are no labels."""
        return self.predicted(self.infer(sample).reshape(-1))

    def predicted(self, logits: np.ndarray) -> int:
        """The class that the outputs [N] of a forward pass name."""
        if self.program.labels == 0:
            return 0
        return int(np.argmax(logits)) if logits.size > 1 else int(logits[0] > 0)

    def train_step(
        self, sample: np.ndarray, label: int | None = None, *, target: np.ndarray | None = None
    ) -> tuple[float, int]:
        """One sample forward, backward and updated (or accumulated) -> (loss, class predicted before the update).

        label:  where outputs are classes; ignored where they are not
        target: float values, one per output, of a model that is trained on given ones
        Errors: DataError where one is missing or outside its range; nothing changes then.
        """
        self.set_input(sample)
        self.set_answer(label, target)
        return self.step()

    def step(self, first: int = 0) -> tuple[float, int]:
        """`train_step` for a loaded sample and label: from row `first` on, where the rows before it have run."""
        self.run(STEP, first)
        self.view("hyper")[3:4] += np.uint32(1)  # as an array it wraps, without a warning
        loss, predicted = self.view("result")
        return float(loss) / 65536, int(predicted)

    def set_answer(self, label: int | None, target: np.ndarray | None = None) -> None:
        """What the loss compares with, as `train_step` takes it. Errors: DataError."""
        program = self.program
        if program.labels:
            if label is None or not 0 <= label < program.labels:
                raise DataError(f"the label of a sample is {label}", why=f"labels are 0 to {program.labels - 1}")
            self.view("label")[0] = label
        if (target is not None) is not program.needs_target:
            what = "needs a target" if program.needs_target else "takes no target"
            raise DataError(
                f"a training step of this model {what}",
                fix='the loss "mean_squared_error" with "target": "given" trains on targets',
            )
        if target is not None:
            self.view("target")[...] = _q16(np.asarray(target, np.float64).reshape(-1), program.outputs)

    def apply(self) -> None:
        """The end of a batch: accumulated gradients into the parameters."""
        self.run([Phase.APPLY])

    def set_input(self, sample: np.ndarray) -> None:
        target = self.view(self.program.input)
        if sample.shape != target.shape or sample.dtype != target.dtype:
            raise DataError(
                f"a sample is {sample.dtype}{list(sample.shape)}, the model takes {target.dtype}{list(target.shape)}"
            )
        target[...] = sample

    def set_learning_rate(self, lr: float, samples: int = 1) -> None:
        """The learning rate of an update whose gradient is the mean over so many samples."""
        try:
            rate = LearningRate.from_float(lr)
            share = rate.divided(samples)
        except ValueError as error:
            raise DataError(str(error)) from None
        hyper = self.view("hyper")
        hyper[:2] = np.array([share.mantissa, share.exponent], np.int64).astype(np.uint32)
        hyper[4:] = np.array([rate.mantissa, rate.exponent], np.int64).astype(np.uint32)

    def set_seed(self, seed: int) -> None:
        self.view("hyper")[2] = seed & 0xFFFFFFFF

    # --- inspection ---

    def view(self, tensor: str) -> np.ndarray:
        """The memory of a tensor as an array; of an arena tensor it is meaningful only during its lifetime."""
        spec, location = self.program.tensors[tensor], self.program.locations[tensor]
        if location.space is Space.CONSTANTS:
            return self._constants[location.offset].view(spec.dtype).reshape(spec.shape)
        raw = self.memory[location.space][location.offset : location.offset + spec.nbytes]
        return raw if spec.dtype == "bit" else raw.view(spec.dtype).reshape(spec.shape)

    def read(self, tensor: str) -> np.ndarray:
        return self.view(tensor).copy()

    def parameters_crc32(self) -> int:
        """CRC-32 of all trained parameters and their masters."""
        crc = zlib.crc32(self.memory[Space.PARAMETERS].tobytes())
        return zlib.crc32(self.memory[Space.MASTERS].tobytes(), crc)

    # --- loading ---

    def _load(self) -> Any:
        ffi, lib = self._runtime.ffi, self._runtime.lib
        rows = ffi.new("tt_row[]", max(1, len(self.program.rows)))
        for row, spec in zip(rows, self.program.rows, strict=False):
            args = ffi.new(f"{spec.kernel}_args *", self._values(spec.args, f"{spec.kernel}_args"))
            self._keep.append(args)
            row.kernel = ffi.cast("tt_kernel", ffi.addressof(lib, spec.kernel))
            row.args = args
            row.phase = int(spec.phase)
        return rows

    def _rows_of(self, first: int, end: int | None) -> Any:
        """A tt_program of the rows first .. end - 1, made once."""
        if (first, end) not in self._parts:
            count = len(self.program.rows)
            last = count if end is None else end
            if not 0 <= first <= last <= count:
                raise ValueError(f"rows {first} to {last} of {count}")
            part = {"rows": self._rows + first, "row_count": last - first}
            self._parts[first, end] = self._runtime.ffi.new("tt_program *", part)
        return self._parts[first, end]

    def _values(self, args: Mapping[str, Any], struct: Any) -> dict[str, Any]:
        """Arguments as cffi takes them; the fields of the C struct (a name or a type) and of `args` are the same."""
        ctype = self._runtime.ffi.typeof(struct) if isinstance(struct, str) else struct
        fields = dict(ctype.fields)
        if fields.keys() != args.keys():
            raise ValueError(f"{ctype.cname}: fields {sorted(fields.keys() ^ args.keys())} are on one side only")
        return {key: self._value(value, fields[key].type) for key, value in args.items()}

    def _value(self, value: Any, ctype: Any) -> Any:
        ffi = self._runtime.ffi
        match value:
            case Pointer():
                return ffi.NULL if value.location is None else ffi.cast("void *", self._address(value.location))
            case StructArray():
                items = ffi.new(f"{value.struct}[]", [self._values(item, value.struct) for item in value.items])
                self._keep.append(items)
                return items
            case dict():
                return self._values(value, ctype)
        return value

    def _address(self, location: Location) -> int:
        if location.space is Space.CONSTANTS:
            return int(self._constants[location.offset].ctypes.data)
        return int(self.memory[location.space].ctypes.data) + location.offset


def _q16(target: np.ndarray, outputs: int) -> np.ndarray:
    """Reals in int32 units of 2^-16, rounded half to even, saturated."""
    if target.size != outputs or not np.isfinite(target).all():
        raise DataError(
            f"a target has {target.size} values, {int(np.isfinite(target).sum())} of them finite",
            why=f"the model has {outputs} outputs",
        )
    return np.clip(np.rint(target * 65536), -(2**31), 2**31 - 1).astype(np.int32)


def _aligned_zeros(size: int) -> np.ndarray:
    """`size` bytes that start on a 16-byte boundary."""
    raw = np.zeros(size + 16, np.uint8)
    start = -raw.ctypes.data % 16
    return raw[start : start + size]


def _aligned_copy(data: np.ndarray) -> np.ndarray:
    copy = _aligned_zeros(math.prod(data.shape) * data.itemsize)
    copy[:] = np.frombuffer(data.tobytes(), np.uint8)
    return copy
