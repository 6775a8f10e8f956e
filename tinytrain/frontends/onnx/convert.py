# SPDX-License-Identifier: Apache-2.0
"""Walk an ONNX QDQ file's operators in order and let each operator's handler add nodes to the graph.

A dequantized tensor holds exactly the reals of an int8 one, so both names stand for the same graph tensor. An operator
between a DequantizeLinear and a QuantizeLinear becomes one integer node; ReLU and Clip on the way become its clamp.
uint8 tensors are seen as int8, 128 lower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tinytrain.errors import ModelError
from tinytrain.frontends.builder import INT8_MAX, INT8_MIN, REMEDY, GraphBuilder, dynamic_shape
from tinytrain.frontends.onnx.reader import FileModel, FileNode
from tinytrain.graph import Graph, Quantization

Handler = Callable[["Converter", FileNode], None]
_handlers: dict[str, Handler] = {}

IMAGE = "image"  # the file's [1, C, H, W] is [H, W, C] in the graph
BATCH = "batch"  # the file's [1, ...] is [...]
WHOLE = "whole"  # the file's shape, which has no batch dimension
HWC_ORDER = (2, 3, 1)  # file dimensions of an image in the graph's order


def handler(*types: str) -> Callable[[Handler], Handler]:
    """Decorator: the function that converts these ONNX operators."""

    def register(function: Handler) -> Handler:
        for operator in types:
            _handlers[operator] = function
        return function

    return register


@dataclass(frozen=True)
class Value:
    """The graph tensor that stands for a tensor of the file.

    chw: where a flattened image kept its order H, W, C, the (C, H, W) that the file flattened
    """

    name: str
    layout: str
    chw: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Constant:
    """A dequantized constant: real = scale * (data - zero_point), scale one element or one per index of `axis`."""

    name: str
    data: np.ndarray
    scale: np.ndarray
    zero_point: int
    axis: int | None

    def real(self) -> np.ndarray:
        scale = self.scale
        if self.axis is not None:
            scale = scale.reshape([-1 if axis == self.axis else 1 for axis in range(self.data.ndim)])
        return (self.data.astype(np.float64) - self.zero_point) * scale


@dataclass
class Tail:
    """What follows an operator up to its QuantizeLinear: the real range left by ReLU and Clip, and the quantization."""

    outputs: tuple[str, ...]  # of the QuantizeLinear: one, or several that do the same
    meaning: Quantization
    low: float = -math.inf
    high: float = math.inf
    bias: str = ""  # the constant that was added

    @property
    def clamp(self) -> tuple[int, int]:
        """The range in integers, each bound quantized as QuantizeLinear does."""
        return (self._integer(self.low, INT8_MIN), self._integer(self.high, INT8_MAX))

    def _integer(self, real: float, limit: int) -> int:
        if math.isinf(real):
            return limit
        with np.errstate(over="ignore"):
            steps = np.rint(np.float32(real) / np.float32(self.meaning.scale[0]))
        return int(np.clip(float(steps) + self.meaning.zero_point, INT8_MIN, INT8_MAX))


class Converter:
    """What handlers work with: the file's tensors, the graph being built, refusals that name the operator."""

    def __init__(self, file: FileModel) -> None:
        self.file = file
        self.build = GraphBuilder(file.path, "onnx")
        self.values: dict[str, Value] = {}
        self.constants = dict(file.constants)
        self.dequantized: dict[str, Constant] = {}
        self.inputs: dict[str, Value] = {}
        self._by_input: dict[str, list[FileNode]] = {}
        self._folded: set[int] = set()  # nodes that are done with
        for node in file.nodes:
            for name in dict.fromkeys(node.inputs):
                self._by_input.setdefault(name, []).append(node)

    def convert(self) -> Graph:
        self._refuse_unsupported()
        for of_constants in (True, False):
            for node in self.file.nodes:
                if node.index not in self._folded and (not of_constants or self._prepares_constant(node)):
                    self._folded.add(node.index)
                    _handlers[node.type](self, node)
        outputs = [self._graph_output(name) for name in self.file.outputs]
        graph = self.build.finish([value.name for value in self.inputs.values()], outputs)
        if any(value.layout == IMAGE for value in self.inputs.values()):
            graph.attrs["input_layout"] = "CHW"
        return graph

    def _prepares_constant(self, node: FileNode) -> bool:
        """Whether a node only quantizes, dequantizes or moves a constant. These come first: tails look at constants."""
        moves = node.type in ("QuantizeLinear", "DequantizeLinear", "Identity", "Transpose")
        return moves and (node.input(0) in self.constants or node.input(0) in self.dequantized)

    # --- refusals ---------------------------------------------------------------------------------------------------

    def refuse(self, node: FileNode, what: str, why: str = "", fix: str = REMEDY) -> ModelError:
        """`what` continues the sentence "Conv 'name' ..."."""
        place = f"{self.file.path}, node {node.index} ({node.type})"
        return ModelError(f"{node.type} '{node.name}' {what}", where=place, why=why, fix=fix)

    def _refuse_unsupported(self) -> None:
        unsupported = [node for node in self.file.nodes if node.type not in _handlers]
        if not unsupported:
            return
        why = "tinytrain has no such operator"
        if len(unsupported) > 1:
            counts = Counter(node.type for node in unsupported)
            listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
            why = f"{len(unsupported)} operators of this file are not supported: {listed}"
        raise self.refuse(unsupported[0], "is not supported", why)

    # --- shapes and layouts -----------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """The file's shape of a tensor."""
        if name in self.constants:
            return self.constants[name].shape
        if name not in self.file.shapes:
            raise dynamic_shape(self.file.path, name, ["?"])
        return self.file.shapes[name]

    def dtype(self, name: str) -> str:
        return str(self.constants[name].dtype) if name in self.constants else self.file.dtypes.get(name, "?")

    def layout(self, name: str) -> str:
        """How a tensor of the file lies in the graph: [1, a, b, c] is an image unless it is turned into one."""
        shape = self.shape(name)
        if not shape or shape[0] != 1:
            return WHOLE
        if len(shape) != 4:
            return BATCH
        readers = list(self.readers(name))
        turned = [reader for reader in readers if list(reader.attrs.get("perm", [])) == [0, 3, 1, 2]]
        return BATCH if readers and len(turned) == len(readers) else IMAGE

    def ir_shape(self, name: str, layout: str) -> tuple[int, ...]:
        shape = self.shape(name)
        if layout == IMAGE:
            return tuple(shape[axis] for axis in HWC_ORDER)
        return (shape[1:] if layout == BATCH else shape) or (1,)

    def ir_axis(self, node: FileNode, layout: str, rank: int, axis: int) -> int:
        """The graph's number of a dimension of the file."""
        number = axis + rank if axis < 0 else axis
        if not 0 <= number < rank or (number == 0 and layout != WHOLE):
            raise self.refuse(node, f"works along dimension {axis} of {rank}", "the batch dimension holds one sample")
        if layout == IMAGE:
            return HWC_ORDER.index(number)
        return number - (layout == BATCH)

    def readers(self, name: str) -> Iterator[FileNode]:
        """The operators that read a tensor, seen through QuantizeLinear and DequantizeLinear."""
        for node in self._by_input.get(name, []):
            if node.type in ("QuantizeLinear", "DequantizeLinear"):
                yield from self.readers(node.outputs[0])
            else:
                yield node

    def is_output(self, name: str) -> bool:
        """Whether a tensor, seen through QuantizeLinear and DequantizeLinear, is the graph's output."""
        steps = [node for node in self._by_input.get(name, []) if node.type in ("QuantizeLinear", "DequantizeLinear")]
        return name in self.file.outputs or any(self.is_output(node.outputs[0]) for node in steps)

    # --- operands ---------------------------------------------------------------------------------------------------

    def value(self, node: FileNode, position: int = 0) -> Value:
        """The activation that an operator reads."""
        name = node.input(position)
        if name in self.values:
            return self.values[name]
        if name in self.constants or name in self.dequantized:
            raise self.refuse(node, f"reads the constant '{name}' where an activation is expected")
        why = f"its input '{name}' does not come from a DequantizeLinear"
        raise self.refuse(node, "works on floats", why, "quantize all of the model (QDQ around every operator)")

    def image(self, node: FileNode) -> str:
        """The [H, W, C] activation that an operator reads."""
        value = self.value(node)
        if value.layout != IMAGE:
            what = f"reads a tensor of the shape {list(self.shape(node.input(0)))}, not an image [1, C, H, W]"
            raise self.refuse(node, what, fix="export the model with images of a batch of 1")
        return value.name

    def constant(self, node: FileNode, position: int) -> np.ndarray | None:
        """The real value of a constant input, None where it is left out."""
        name = node.input(position)
        if not name:
            return None
        if name in self.dequantized:
            return self.dequantized[name].real()
        if name not in self.constants:
            raise self.refuse(
                node, f"has an input '{name}' that is not a constant", "it is computed while the model runs"
            )
        return self.constants[name]

    def weight(self, node: FileNode, position: int, channel_axis: int) -> tuple[Constant, np.ndarray]:
        """An int8 weight, and its scales: one, or one per output channel (dimension `channel_axis`)."""
        name = node.input(position)
        weight = self.dequantized.get(name)
        if weight is None:
            known = name in self.constants
            why = f"'{name}' is {'a float constant' if known else 'computed while the model runs'}"
            raise self.refuse(node, "has no quantized weights", why, "quantize its weights to int8 as well")
        if weight.data.dtype != np.int8 or weight.zero_point != 0:
            why = f"'{weight.name}' is {weight.data.dtype} with the zero point {weight.zero_point}"
            fix = "quantize with weight_type=QuantType.QInt8 (symmetric weights)"
            raise self.refuse(node, "has weights that are not symmetric int8", why, fix)
        if weight.axis not in (None, channel_axis % weight.data.ndim):
            why = f"its scales run along dimension {weight.axis}"
            raise self.refuse(node, "has weights that are not quantized per output channel", why, "quantize it again")
        return weight, weight.scale

    def meaning(self, node: FileNode) -> Quantization:
        """The per-tensor quantization that a QuantizeLinear or DequantizeLinear states, for int8."""
        scale, zero_point, axis = self.quantization(node, 1)
        if axis is not None:
            raise self.refuse(node, "quantizes an activation per channel", "one scale per activation is supported")
        return Quantization(scale, zero_point)

    def quantization(self, node: FileNode, rank: int) -> tuple[np.ndarray, int, int | None]:
        """(scale, zero point, axis) of a QuantizeLinear or DequantizeLinear; uint8 is shifted to int8."""
        dtype = self.dtype(node.outputs[0] if node.type == "QuantizeLinear" else node.input(0))
        scale = self.constants.get(node.input(1))
        zero_point = self.constants.get(node.input(2)) if node.input(2) else np.zeros((), np.int8)
        if scale is None or zero_point is None:
            raise self.refuse(node, "has a scale or zero point that is not a constant")
        if dtype not in ("int8", "uint8", "int32"):
            raise self.refuse(node, f"works with {dtype}", "int8 and uint8 are supported")
        if node.attrs.get("block_size", 0):
            raise self.refuse(node, "quantizes in blocks", "one scale per tensor or per channel is supported")
        with np.errstate(invalid="ignore"):
            scales = scale.astype(np.float64).reshape(-1)
        if not (scales.size and np.isfinite(scales).all() and (scales > 0).all()):
            raise self.refuse(node, "has a scale that is not above 0", fix="quantize the model again")
        zeros = np.unique(zero_point.astype(np.int64)) - (128 if dtype == "uint8" else 0)
        if zeros.size != 1:
            raise self.refuse(node, "has zero points that differ from channel to channel", fix="use symmetric weights")
        axis = int(node.attrs.get("axis", 1)) if scales.size > 1 else None
        return scales, int(zeros[0]), None if axis is None else axis % max(rank, 1)

    # --- results ----------------------------------------------------------------------------------------------------

    def tail(self, node: FileNode, bias: bool = False) -> Tail:
        """Follow an operator's output through ReLU and Clip to its QuantizeLinear; the nodes on the way are folded.

        bias: the addition of a constant may come before them
        """
        name, low, high, added = node.outputs[0], -math.inf, math.inf, ""
        while name not in self.file.outputs:
            readers = self._by_input.get(name, [])
            if readers and all(reader.type == "QuantizeLinear" for reader in readers):
                return Tail(*self._quantized(node, readers), low, high, added)
            if len(readers) != 1:
                break
            reader = readers[0]
            if reader.type in ("Relu", "Clip"):
                lower, upper = self.clip_range(reader)
                low, high = min(max(low, lower), upper), min(max(high, lower), upper)
            elif bias and not added and math.isinf(low) and math.isinf(high) and reader.type == "Add":
                added = next((other for other in reader.inputs if other != name), "")
                if added not in self.constants and added not in self.dequantized:
                    break
            else:
                break
            self._folded.add(reader.index)
            name = reader.outputs[0]
        why = f"no QuantizeLinear follows its output '{name}'"
        raise self.refuse(node, "has no quantized output", why, "quantize its output (QDQ after every operator)")

    def _quantized(self, node: FileNode, readers: list[FileNode]) -> tuple[tuple[str, ...], Quantization]:
        meaning = self.meaning(readers[0])
        if any(self.meaning(reader) != meaning for reader in readers):
            raise self.refuse(node, "has an output that is quantized in two ways", fix="quantize the model again")
        self._folded.update(reader.index for reader in readers)
        return tuple(reader.outputs[0] for reader in readers), meaning

    def clip_range(self, node: FileNode) -> tuple[float, float]:
        """The real range of a ReLU or Clip."""
        if node.type == "Relu":
            return 0.0, math.inf
        bounds = []
        for position, (key, limit) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
            given = self.constant(node, position)
            bounds.append(
                float(node.attrs.get(key, limit) if given is None or not given.size else given.reshape(-1)[0])
            )
        if not bounds[0] <= bounds[1]:
            raise self.refuse(node, f"has the empty range {bounds[0]:g} to {bounds[1]:g}", fix="export the model again")
        return bounds[0], bounds[1]

    def write(self, tail: Tail, layout: str) -> str:
        """A new activation for the end of a tail."""
        name = self.activation(tail.outputs[0], layout, tail.meaning)
        self.values.update(dict.fromkeys(tail.outputs, self.values[tail.outputs[0]]))
        return name

    def activation(self, name: str, layout: str, meaning: Quantization) -> str:
        """A new activation for the file's tensor `name`."""
        value = Value(self.build.activation(name, self.ir_shape(name, layout), meaning), layout)
        self.values[name] = value
        return value.name

    def alias(self, name: str, value: Value, tensor: str | None = None, layout: str | None = None) -> None:
        """The file's tensor `name` is the graph tensor of `value`, or `tensor` in its place."""
        self.values[name] = replace(value, name=tensor or value.name, layout=layout or value.layout)

    def enter(self, node: FileNode, meaning: Quantization) -> bool:
        """If `node` reads a graph input, create the input tensor with this quantization."""
        name = node.input(0)
        if name not in self.file.inputs:
            return False
        if name not in self.inputs:
            layout = self.layout(name)
            result = node.outputs[0] if self.dtype(name).startswith("float") else name
            self.inputs[name] = Value(self.build.activation(result, self.ir_shape(name, layout), meaning), layout)
        value = self.inputs[name]
        if self.build[value.name].quantization != meaning:
            raise self.refuse(node, f"quantizes the input '{name}' a second time, differently", fix="quantize it once")
        self.values[node.outputs[0]] = value
        return True

    def _graph_output(self, name: str) -> str:
        if name not in self.values:
            raise ModelError(
                f"the output '{name}' is not the result of an int8 operator",
                where=str(self.file.path),
                fix="quantize all of the model (QDQ around every operator)",
            )
        return self.values[name].name
