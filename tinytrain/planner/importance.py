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


@dataclass(frozen=True)
class Answers:
    """Samples with what a step is told of them: labels, or targets where the loss needs them."""

    samples: np.ndarray
    labels: np.ndarray
    targets: np.ndarray | None

    def train_step(self, machine: Machine, index: int) -> None:
        target = None if self.targets is None else self.targets[index]
        machine.train_step(self.samples[index], int(self.labels[index]), target=target)


def fisher(
    forward: Graph,
    scheme: Scheme,
    samples: np.ndarray,
    labels: np.ndarray,
    seed: int,
    progress: Progress | None = None,
    targets: np.ndarray | None = None,
) -> dict[str, Importance]:
    """Importance of every trainable layer for the scheme's loss, by node name.

    A new classifier starts at zero and would send no gradient back, so it is trained for a moment first.
    """
    data = Answers(samples, labels, targets)
    order = np.random.default_rng(seed).permutation(len(samples))
    head = train_head(forward, scheme, data, order[:HEAD_SAMPLES], progress)
    whole = all_weights(forward).but(classes=scheme.classes, accumulate=True, loss=scheme.loss)
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
        data.train_step(machine, int(index))
    for done, index in enumerate(chosen):
        for node in updates:
            machine.view(graph[node.attrs["parameter"]].accumulator or "")[...] = 0
        data.train_step(machine, int(index))
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


def train_head(
    forward: Graph, scheme: Scheme, data: Answers, order: np.ndarray, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Values of the classifier's parameters after one pass."""
    graph = training_graph(forward, Scheme(classes=scheme.classes, update=scheme.update, loss=scheme.loss))
    machine = Machine(lower(graph, lay_out(graph)))
    name = classifier_node(forward).name
    rate = HEAD_RATE
    if scheme.loss.kind == "mean_squared_error":
        rate = _stable_rate(machine, graph, name, data.samples[order[:SETTLING]])
    machine.set_learning_rate(rate)
    for done, index in enumerate(order):
        data.train_step(machine, int(index))
        if progress and done % 8 == 7:
            progress("head", done + 1, len(order))
    return {f"{name}.head.{part}": machine.read(f"{name}.head.{part}") for part in ("bias", "weight")}


def _stable_rate(machine: Machine, graph: Graph, head: str, samples: np.ndarray) -> float:
    """For squared errors: a step moves outputs by rate * 2 / N * |features and 1|^2 of their error; a quarter of it.

    (Normalized least mean squares: beyond twice the error, steps diverge.)
    """
    features = graph[graph.node(head).inputs[0]]
    squares: list[float] = []
    for sample in samples:
        machine.infer(sample)  # nothing is written between the head and its reader, so its input is still there
        reals = (machine.view(features.name).astype(np.float64) - features.zero_point) * features.scale
        squares.append(float((reals**2).sum()))
    outputs = machine.program.outputs
    return min(HEAD_RATE * outputs, outputs / (8 * (1 + max(squares))))
