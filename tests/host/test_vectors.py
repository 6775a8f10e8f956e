# SPDX-License-Identifier: Apache-2.0
"""The host's kernels give the same bits whatever its processor and the lanes of a vector."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import cffi
import numpy as np
import pytest

from tests.nets import Net, random_sample
from tests.training import machine_of
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.host.runtime import Runtime, build, declarations, instruction_set
from tinytrain.train import all_weights, parse_scheme, training_graph

machine_module = importlib.import_module("tinytrain.host.machine")
CLASSES = 9


# compiler flags, and what they define: instructions this processor may not have
BUILDS = {
    "1 lane": ("-DTT_VECTOR_LANES=1", ""),
    "4 lanes": ("-DTT_VECTOR_LANES=4", ""),
    "AVX2": ("-mavx2", "__AVX2__"),
    "AVX-512": ("-mavx2 -mavx512bw -mavx512vl -mavx512dq", "__AVX512BW__"),
}


@functools.cache
def runtime_of(name: str) -> Runtime:
    """The host's kernels as on another processor."""
    flags, needed = BUILDS[name]
    if needed and f"#define {needed} " not in instruction_set():
        pytest.skip(f"needs a processor with {name}")
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return Runtime(ffi, ffi.dlopen(str(build(("-std=c99", "-O2", "-fPIC", "-shared", *flags.split())))))


def wide() -> Graph:
    """Counts of channels beside those of vectors and of several vectors, on one residual stream."""
    net = Net(np.random.default_rng(0), "wide")
    stream = net.conv("stem", net.input((9, 9, 3), zero_point=-11), 21, 3, 2, 1, zero_point=5)
    for index, channels in enumerate((40, 75)):
        y = net.conv(f"block{index}.expand", stream, channels, relu=True)
        y = net.depthwise(f"block{index}.depthwise", y, relu=True, zero_point=-100)
        y = net.conv(f"block{index}.project", y, 21, zero_point=9)
        stream = net.add(f"block{index}.add", stream, y, zero_point=-6)
    y = net.conv("last", stream, 33, 3, 2, 1, relu=True)
    return net.done(net.dense("head", net.mean("pool", y), CLASSES))


def memory_after_steps(machine: Machine, graph: Graph, count: int = 3) -> dict[Any, bytes]:
    rng = np.random.default_rng(1)
    for _ in range(count):
        machine.train_step(random_sample(rng, graph), int(rng.integers(CLASSES)))
    return {space: array.tobytes() for space, array in machine.memory.items()}


@pytest.mark.parametrize("gradients", ["int16", "int8"])
@pytest.mark.parametrize("update", ["master", "stochastic"])
@pytest.mark.parametrize("name", BUILDS)
def test_training_leaves_the_same_bytes(
    name: str, update: str, gradients: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(name)
    forward = wide()
    graph = training_graph(forward, all_weights(forward).but(update=update, gradients=gradients))
    here = memory_after_steps(machine_of(graph, 0.05), forward)
    monkeypatch.setattr(machine_module, "runtime", lambda: runtime)
    assert memory_after_steps(machine_of(graph, 0.05), forward) == here


@pytest.mark.parametrize("name", BUILDS)
def test_slices_give_the_same_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a weight that begin and end within a vector."""
    runtime = runtime_of(name)
    forward = wide()
    entry = {"block1.expand": {"input_channels": 0.3}, "block1.project": {"output_channels": 0.6, "bias": True},
             "block1.depthwise": {"input_channels": 0.45}, "last": {"input_channels": 0.5}}  # fmt: skip
    graph = training_graph(forward, parse_scheme({"layers": entry}, forward))
    here = memory_after_steps(machine_of(graph, 0.05), forward)
    monkeypatch.setattr(machine_module, "runtime", lambda: runtime)
    assert memory_after_steps(machine_of(graph, 0.05), forward) == here
