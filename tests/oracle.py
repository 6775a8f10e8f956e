# SPDX-License-Identifier: Apache-2.0
"""Compare the C runtime with the numpy oracle, and build one-node graphs to do it on."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import cffi
import numpy as np

from tests.emulated import EmulatedMachine, fits
from tinytrain import runtime_c
from tinytrain.boards import load
from tinytrain.graph import Exponent, Graph, Node, Phase, Quantization, Role, Tensor, verify
from tinytrain.host import Machine
from tinytrain.host.runtime import Runtime, build, declarations
from tinytrain.memory import lay_out
from tinytrain.ops import add_node, evaluate, initial_values
from tinytrain.program import Program, lower


def one_node(
    op: str,
    inputs: Mapping[str, Tensor],
    attrs: Mapping[str, Any],
    output: Mapping[str, Any],
    phase: Phase = Phase.FORWARD,
    state: tuple[int, int, int] | None = None,
) -> Graph:
    """A graph of one node. Inputs without data (and not persistent) become graph inputs, in order.

    state: initial value of the exponent state "state", for outputs with exponent=Exponent("state")

    output: fields of the output tensor, for example quantization=..., role=..., exponent=...
    """
    graph = Graph(op)
    for tensor in inputs.values():
        graph.add_tensor(tensor)
        if tensor.data is None and not tensor.role.persistent:
            graph.inputs.append(tensor.name)
    add_node(graph, Node(op, op, tuple(inputs), ("y",), dict(attrs), phase=phase), **output)
    graph.outputs = ["y"]
    if state is not None:
        graph.add_tensor(exponent_state("state", state))
    return verify(graph)


def activation(name: str, shape: tuple[int, ...], scale: float = 1.0, zero_point: int = 0) -> Tensor:
    return Tensor(name, shape, "int8", quantization=Quantization.per_tensor(scale, zero_point))


def constant(name: str, data: np.ndarray, scale: Any = None, axis: int | None = None) -> Tensor:
    quantization = None if scale is None else Quantization(np.asarray(scale), 0, axis)
    return Tensor(name, data.shape, str(data.dtype), Role.CONSTANT, quantization, data)


def gradient(name: str, shape: tuple[int, ...], offset: int = 0, dtype: str = "int16") -> Tensor:
    return Tensor(name, shape, dtype, Role.GRADIENT, exponent=Exponent(None, offset))


def exponent_state(name: str, value: tuple[int, int, int]) -> Tensor:
    """State of a delayed exponent: {exponent, peak mantissa, peak exponent}."""
    return Tensor(name, (3,), "int32", Role.OPTIMIZER, data=np.array(value, np.int32))


CORES = {"m7": "mps2-an500", "m55": "mps3-an547", "m3": "mps2-an385", "m0plus": "rp2040"}
# which machines compare with the oracle: names of CORES and kinds of kernels; TINYTRAIN_MACHINES=m7,portable narrows it
MACHINES = os.environ.get("TINYTRAIN_MACHINES", ",".join(("host", "ref", "portable", *CORES))).split(",")


def machines_of(program: Program) -> Iterator[tuple[str, Machine]]:
    """The host's machine, and one with every other source that a kernel of the program has, by name."""
    for name in MACHINES:
        if name == "host":
            yield name, Machine(program)
        elif name in CORES:
            board = load(CORES[name])
            if _has_twins(program, board.variants) and fits(program, board):
                yield name, EmulatedMachine(program, CORES[name])
        elif name == "ref" or _has_twins(program, (name, "ref")):
            yield name, Machine(program, native(name))


def _has_twins(program: Program, variants: tuple[str, ...]) -> bool:
    return any(runtime_c.kernel_source(kernel, variants).parent.name != "ref" for kernel in program.kernels)


@functools.cache
def native(variant: str) -> Runtime:
    """Kernels of a kind compiled for this machine, without vectors: as a small core has them."""
    flags = ("-std=c99", "-O1", "-fPIC", "-shared", "-DTT_VECTOR_LANES=1")
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return Runtime(ffi, ffi.dlopen(str(build(flags, (variant, "ref")))))


def assert_machines_equal_oracle(
    graph: Graph, inputs: Mapping[str, np.ndarray], steps: int = 1
) -> dict[str, np.ndarray]:
    """Run every phase on all, `steps` times; outputs and all persistent memory must be equal to the bit.

    Returns the oracle's values of the last step.
    """
    program = lower(graph, lay_out(graph))
    machines = list(machines_of(program))
    persistent = initial_values(graph)
    values: dict[str, np.ndarray] = {}
    for _ in range(steps):
        values = evaluate(graph, inputs, persistent)
        for where, machine in machines:
            for name, array in inputs.items():
                machine.view(name)[...] = array
            machine.run(tuple(Phase))
            for name in graph.outputs:
                stored = graph.storage(name) if graph[name].role.persistent else name
                assert_same(machine.view(stored), values[name], f"{where}: {name}")
            for name, tensor in graph.tensors.items():
                if tensor.role.persistent and tensor.alias_of is None:
                    assert_same(machine.view(name), persistent[name], f"{where}: {name}")
    return values


def assert_same(got: np.ndarray, want: np.ndarray, name: str) -> None:
    """Equal to the bit, or a message with the first differing element and both values."""
    assert got.shape == want.shape, f"{name}: shape {got.shape}, oracle {want.shape}"
    different = np.argwhere(got != want)
    if len(different):
        first = tuple(int(i) for i in different[0])
        raise AssertionError(
            f"{name}{list(first)} is {got[first]}, the oracle says {want[first]} "
            f"({len(different)} of {got.size} elements differ)"
        )
