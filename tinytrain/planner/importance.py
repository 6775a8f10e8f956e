# SPDX-License-Identifier: Apache-2.0
"""How much each (tensor, slice) is worth: the trace of its Fisher information.

The mean over samples of the squared gradient of the loss, summed over the slice, is the first-order decrease of the
loss that one step of gradient descent on that slice brings. All gradients come from the integer training step itself,
run on the host with every weight trained and accumulators read out, so importance is measured in what will be trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinytrain.graph import Graph, Phase, Tensor
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.ops import lookup
from tinytrain.ops.updates import ACCUMULATOR_BITS
from tinytrain.program import lower
from tinytrain.train import Scheme, all_weights, classifier_node, trainable_layers, training_graph

HEAD_SAMPLES, FISHER_SAMPLES = 256, 48
HEAD_RATE = 0.02
FISHER_RATE = 2.0**-6
SETTLING = 16  # steps before anything is measured: gradients saturate until their exponents, layer by layer, have risen
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Importance:
    """Of one layer: its bias, and each input channel of its weight (of a depthwise layer: each channel)."""

    bias: float
    channels: np.ndarray


def fisher(
    forward: Graph, scheme: Scheme, samples: np.ndarray, labels: np.ndarray, seed: int, progress: Progress | None = None
) -> dict[str, Importance]:
    """Importance of every trainable layer, by node name.

    A new classifier starts at zero and would send no gradient back, so it is trained for a moment first.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    head = _train_head(forward, scheme, samples, labels, order[:HEAD_SAMPLES], progress)
    whole = all_weights(forward).but(classes=scheme.classes, accumulate=True)
    graph = training_graph(forward, whole)
    machine = Machine(lower(graph, lay_out(graph)))
    for name, value in head.items():
        machine.view(name)[...] = value
    machine.set_learning_rate(FISHER_RATE)
    layers = {node.name: node for node in trainable_layers(forward)}
    bias = dict.fromkeys(layers, 0.0)
    channels = {name: np.zeros(_channel_count(forward, name)) for name in layers}
    updates = [node for node in graph.nodes if node.phase is Phase.UPDATE and node.origin in layers]
    chosen = order[:FISHER_SAMPLES]
    for index in np.resize(chosen, SETTLING):
        machine.train_step(samples[index], int(labels[index]))
    for done, index in enumerate(chosen):
        for node in updates:
            machine.view(graph[node.attrs["parameter"]].accumulator or "")[...] = 0
        machine.train_step(samples[index], int(labels[index]))
        for node in updates:
            squares = _gradient(machine, graph[node.attrs["parameter"]]) ** 2
            if squares.ndim == 1:
                bias[node.origin] += float(squares.sum())
            else:
                channels[node.origin] += _per_channel(forward, node.origin, squares)
        if progress:
            progress("fisher", done + 1, len(chosen))
    return {name: Importance(bias[name] / len(chosen), channels[name] / len(chosen)) for name in layers}


def _gradient(machine: Machine, parameter: Tensor) -> np.ndarray:
    """The real gradient of one sample, from what the accumulator holds."""
    quantization = parameter.quantization
    assert quantization is not None and parameter.accumulator is not None
    shape = [1] * len(parameter.shape)
    shape[quantization.axis or 0] = -1
    unit = FISHER_RATE / quantization.scale.reshape(shape) * 2.0 ** ACCUMULATOR_BITS[parameter.dtype]
    # the accumulator adds rate * gradient / scale; x's scale is part of the gradient already
    return machine.view(parameter.accumulator).astype(np.float64) / unit


def _weight_axis(forward: Graph, layer: str) -> int:
    axes = lookup(forward.node(layer).op).weight_axes
    assert axes is not None
    return axes[1]


def _channel_count(forward: Graph, layer: str) -> int:
    return forward[forward.node(layer).inputs[2]].shape[_weight_axis(forward, layer)]


def _per_channel(forward: Graph, layer: str, squares: np.ndarray) -> np.ndarray:
    axis = _weight_axis(forward, layer)
    return squares.sum(axis=tuple(i for i in range(squares.ndim) if i != axis))


def _train_head(
    forward: Graph,
    scheme: Scheme,
    samples: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Values of the classifier's parameters after one pass."""
    graph = training_graph(forward, Scheme(classes=scheme.classes, update=scheme.update))
    machine = Machine(lower(graph, lay_out(graph)))
    machine.set_learning_rate(HEAD_RATE)
    for done, index in enumerate(order):
        machine.train_step(samples[index], int(labels[index]))
        if progress and done % 8 == 7:
            progress("head", done + 1, len(order))
    name = classifier_node(forward).name
    return {f"{name}.head.{part}": machine.read(f"{name}.head.{part}") for part in ("bias", "weight")}
