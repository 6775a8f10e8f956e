# SPDX-License-Identifier: Apache-2.0
"""What an operator is: the methods every file in this package provides, and the registry that finds them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tinytrain.errors import GraphError
from tinytrain.graph import DTYPES, Exponent, Graph, Node, Tensor
from tinytrain.ops import arithmetic as am

if TYPE_CHECKING:
    from tinytrain.ops.training import TrainingBuilder


# of the bytes a node works on, one in so many may be raised for the speed of its kernel
WORTHWHILE_SHARE = 32


@dataclass(frozen=True)
class Ref:
    """A kernel argument that points to a tensor's bytes."""

    tensor: str


@dataclass(frozen=True)
class Scratch:
    """A kernel argument that points to the scratch bytes of the node."""


@dataclass(frozen=True)
class ScratchBytes:
    """A kernel argument that says how many scratch bytes there are: from `scratch` to `scratch_wanted`."""


@dataclass(frozen=True)
class Structs:
    """A kernel argument that points to a const array of C structs, one dict of arguments each."""

    struct: str
    items: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class KernelCall:
    """One row of a Program: `args` are the fields of `struct <kernel>_args` by name.

    A value is an int, a Ref, Scratch(), Structs, None (NULL) or a numpy array (constants, placed in flash).
    """

    kernel: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """macs: multiply-accumulates of one run; bytes_moved: bytes read and written."""

    macs: int = 0
    bytes_moved: int = 0


@dataclass
class Evaluation:
    """Values of tensors while numpy executes a graph; persistent tensors are updated in place of their storage."""

    graph: Graph
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def exponent(self, tensor: str) -> int:
        """The power of two of a gradient tensor, now."""
        exponent = self.graph[tensor].exponent
        assert exponent is not None, tensor
        return exponent.offset + (int(self.values[exponent.state][0]) if exponent.state else 0)

    def unit(self, tensor: str) -> float:
        """The real value of one mantissa step of a gradient tensor, now."""
        return 2.0 ** self.exponent(tensor)

    def exponent_state(self, tensor: str) -> np.ndarray:
        """The int32[3] state behind a gradient tensor's delayed exponent."""
        exponent = self.graph[tensor].exponent
        assert exponent is not None and exponent.state is not None, tensor
        return self.values[exponent.state]

    def mantissas(self, values: np.ndarray, exponent: int, tensor: str) -> np.ndarray:
        """values * 2^exponent as the mantissas of a gradient tensor, under its delayed exponent (which changes)."""
        return am.to_mantissas(values, exponent, self.exponent_state(tensor), self.graph[tensor].dtype)


@dataclass(frozen=True)
class State:
    """A tensor an update rule keeps beside a parameter: of its shape, or of `shape`; and its initial value (zeros)."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None = None
    value: tuple[int, ...] = ()


class Operator:
    """Base of all operators. Subclasses are stateless; every method gets the graph and the node."""

    name: str = ""
    # pairs (input index, output index) that may share bytes when the input is not needed afterwards
    in_place: tuple[tuple[int, int], ...] = ()
    # True where the output is the input's bytes seen with another shape: no kernel runs
    view: bool = False
    # False where values only move, or are not int8: the output is neither rounded nor held within a clamp
    saturates: bool = True
    # of an operator without `gradient`: why none passes it
    no_gradient: str = "layers before it cannot be trained"
    # of an operator with inputs (x, bias, weight): the weight's (output channel axis, input channel axis)
    weight_axes: tuple[int, int] | None = None
    # of an update rule: what it keeps, by name
    states: tuple[State, ...] = ()

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        """Groups of (tensor, axis) whose channels may be put in another order together.

        An axis of an operand that no group names keeps its order; so does everything by default.
        """
        return []

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        """(shape, dtype) of each output; GraphError naming the node where the inputs do not fit."""
        raise NotImplementedError

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs in numpy: this is the definition of the operator."""
        raise NotImplementedError

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        """The same operator on reals, with torch, before its output is rounded and clamped; torch differentiates it.

        inputs: torch tensors in real units. Activations have a leading batch dimension [N, *shape] and so has the
        result; weights, biases and other constants have none.
        """
        raise GraphError(f"'{node.name}' ({node.op}) has no float definition")

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        """Add nodes for the gradient of each input and for the updates of trained parameters.

        gy: the gradient of the (only) output, in real units; wanted: whether an activation input needs its gradient.
        Returns one gradient tensor name (or None) per activation input.
        """
        raise GraphError(
            f"'{node.name}' ({node.op}) has no gradient",
            why=self.no_gradient,
            fix="train only layers after it",
        )

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """Of a gradient operator: how far its real result may be from the exact one, per element or one number for all.

        It holds where nothing saturates. run: the values of a step after the node was computed. Here: half a unit for
        the rounding into mantissas of 16 bits, a whole one for the stochastic rounding into 8, and nothing where the
        exponent is another tensor's, for then values only move.
        """
        (y,) = node.outputs
        exponent = run.graph[y].exponent
        share = 0.5 if run.graph[y].dtype == "int16" else 1.0
        return run.unit(y) * share if exponent is not None and exponent.state == f"{y}.exponent" else 0.0

    def lower(self, graph: Graph, node: Node) -> KernelCall | None:
        """The kernel call that computes this node, or None for a view."""
        raise NotImplementedError

    def scratch(self, graph: Graph, node: Node) -> int:
        """Bytes of arena this node's kernel needs while it runs, whatever the processor."""
        return 0

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        """Bytes of arena with which the kernel is fastest. It gets what the layout leaves free, at least `scratch`."""
        return self.scratch(graph, node)

    def cost(self, graph: Graph, node: Node) -> Cost:
        tensors = graph.ins(node) + graph.outs(node)
        return Cost(0, sum(tensor.nbytes for tensor in tensors))


_registry: dict[str, Operator] = {}
OperatorClass = TypeVar("OperatorClass", bound=type[Operator])


def operator(name: str) -> Callable[[OperatorClass], OperatorClass]:
    """Class decorator: register an operator under the name nodes use."""

    def register(cls: OperatorClass) -> OperatorClass:
        if name in _registry:
            raise ValueError(f"operator '{name}' is registered twice")
        cls.name = name
        _registry[name] = cls()
        return cls

    return register


def load_all(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that its operators register themselves."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def lookup(name: str) -> Operator:
    try:
        return _registry[name]
    except KeyError:
        raise GraphError(f"no operator is called '{name}'", fix=f"known: {', '.join(sorted(_registry))}") from None


def names() -> list[str]:
    return sorted(_registry)


def refuse(node: Node, why: str, fix: str = "") -> GraphError:
    """The error of an operator whose inputs do not fit."""
    return GraphError(f"'{node.name}' ({node.op}) does not fit together", why=why, fix=fix)


def add_node(graph: Graph, node: Node, **fields: Any) -> list[Tensor]:
    """Append a node with new output tensors whose shapes and dtypes the operator infers; `fields` go to the tensors."""
    graph.nodes.append(node)
    shapes = lookup(node.op).infer(graph, node)
    return [
        graph.add_tensor(Tensor(name, shape, dtype, **fields))
        for name, (shape, dtype) in zip(node.outputs, shapes, strict=True)
    ]


def kernel_for(gradient: Tensor, kernel: str) -> str:
    """The kernel for the width of a gradient's mantissas: `<kernel>_s16` or `<kernel>_s8`."""
    return f"{kernel}_s{DTYPES[gradient.dtype]}"


def own_exponent(graph: Graph, node: Node) -> Ref | None:
    """The exponent state of a node's gradient, or None (NULL) where it has that of the node's first input."""
    gy, gx = graph[node.inputs[0]].exponent, graph[node.outputs[0]].exponent
    assert gy is not None and gx is not None
    return Ref(gx.state) if gx.state and gx.state != gy.state else None


def worthwhile_scratch(op: Operator, graph: Graph, node: Node) -> int:
    """Scratch that may raise the arena: what a kernel wants, at most a share of what the node works on."""
    return min(op.scratch_wanted(graph, node), op.cost(graph, node).bytes_moved // WORTHWHILE_SHARE // 4 * 4)


def same_channels(graph: Graph, *names: str) -> list[list[tuple[str, int]]]:
    """`channel_axes` of an operator whose operands share the channels of their last axis."""
    return [[(name, len(graph[name].shape) - 1) for name in names]]


def exponent_args(prefix: str, exponent: Exponent | None) -> dict[str, Any]:
    """Kernel arguments for reading a gradient's exponent: a pointer to its state (or NULL) and an offset."""
    assert exponent is not None
    return {
        f"{prefix}_exponent": Ref(exponent.state) if exponent.state else None,
        f"{prefix}_exponent_offset": exponent.offset,
    }
