# SPDX-License-Identifier: Apache-2.0
"""Integer training learns: the loss falls as its gradient says, and a small network learns a small task."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests import nets
from tests.training import machine_of, measured_gradients
from tinytrain.graph import Graph, Phase
from tinytrain.host import Machine
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, training_graph
from tinytrain.train.optimizer import Optimizer


def loss_of(machine: Machine, sample: np.ndarray, label: int) -> float:
    """The loss with the parameters as they are."""
    machine.set_input(sample)
    machine.view("label")[0] = label
    machine.run([Phase.FORWARD, Phase.LOSS])
    return float(machine.view("result")[0]) / 65536


def test_the_heads_gradient_is_the_finite_difference_of_the_loss(residual: Graph, rng: np.random.Generator) -> None:
    """Every parameter of the head by itself: its int16 weights are fine enough for differences."""
    graph = training_graph(residual, Scheme(accumulate=True))
    sample = nets.random_sample(rng, residual)
    gradients = measured_gradients(graph, sample, 2)
    machine = machine_of(graph)
    checked = 0
    for name, gradient in gradients.items():
        tensor = graph[name]
        scales = np.broadcast_to(tensor.quantization.scale.reshape(-1, *[1] * (len(tensor.shape) - 1)), tensor.shape)
        for index in np.ndindex(tensor.shape):
            step = max(1, round((0.02 if len(tensor.shape) == 2 else 0.05) / scales[index]))
            view = machine.view(name)
            if abs(int(view[index])) + step > 32767 and tensor.dtype == "int16":
                continue  # at the end of its range
            sides = []
            for sign in (1, -1):
                view[index] += sign * step
                sides.append(loss_of(machine, sample, 2))
                view[index] -= sign * step
            difference = (sides[0] - sides[1]) / (2 * step * scales[index])
            # the loss has 16 bits, each of its sides an error of a few units
            assert abs(difference - gradient[index]) < 6 * 2.0**-16 / (step * scales[index]) + 0.02 * abs(
                gradient[index]
            ), (name, index)
            checked += 1
    assert checked >= 40


@pytest.mark.parametrize("rate", [0.0003, 0.001, 0.003])
def test_one_step_lowers_the_loss_by_rate_times_the_squared_gradient(
    residual: Graph, rng: np.random.Generator, rate: float
) -> None:
    """First order, for the head's parameters, over several samples."""
    ratios = []
    for _ in range(6):
        sample, label = nets.random_sample(rng, residual), int(rng.integers(4))
        squared = sum(
            float((g**2).sum())
            for g in measured_gradients(training_graph(residual, Scheme(accumulate=True)), sample, label).values()
        )
        machine = machine_of(training_graph(residual, Scheme()), rate)
        before, _ = machine.train_step(sample, label)
        fall = before - loss_of(machine, sample, label)
        if squared > 0.05:
            ratios.append(fall / (rate * squared))
    assert len(ratios) >= 3
    assert 0.85 < np.mean(ratios) < 1.15 and min(ratios) > 0.7, ratios


@pytest.mark.parametrize("update", ["master", "stochastic"])
def test_steps_on_one_sample_lower_its_loss(residual: Graph, rng: np.random.Generator, update: str) -> None:
    machine = machine_of(training_graph(residual, all_weights(residual).but(update=update)), 0.01)
    sample = nets.random_sample(rng, residual)
    losses = [machine.train_step(sample, 3)[0] for _ in range(30)]
    assert losses[0] > 0.3 and losses[-1] < 0.25 * losses[0]


def stripes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of 8 x 8 x 3 whose class is the direction of their stripes: no pixel tells by itself."""
    labels = np.arange(count) % 4
    rows, columns = np.mgrid[0:8, 0:8]
    patterns = [rows, columns, rows + columns, rows - columns]
    images = np.empty((count, 8, 8, 3))
    for index, label in enumerate(labels):
        wave = np.cos(math.pi / 2 * (patterns[label] + rng.integers(4)))
        images[index] = 55 * wave[:, :, None] + rng.normal(0, 14, (8, 8, 3))
    return np.clip(np.round(images), -128, 127).astype(np.int8), labels


def task() -> Graph:
    net = nets.Net(np.random.default_rng(3), "stripes")
    y = net.conv("stem", net.input((8, 8, 3)), 8, 3, 1, 1, relu=True)
    y = net.depthwise("depthwise", y, relu=True)
    side = net.conv("side", y, 8)
    y = net.conv("point", net.add("add", side, net.conv("other", y, 8, 3, 1, 1)), 12, relu=True)
    return net.done(net.dense("head", net.mean("pool", y), 4))


def accuracy_after(graph: Graph, rate: float, epochs: int, accumulate: int = 0) -> tuple[float, float]:
    """(accuracy on new images before, after)"""
    rng = np.random.default_rng(0)
    x, y = stripes(rng, 160)
    unseen, truth = stripes(rng, 200)
    machine = machine_of(graph, rate)

    def accuracy() -> float:
        return float(np.mean([int(np.argmax(machine.infer(image))) == label for image, label in zip(unseen, truth)]))

    before = accuracy()
    for epoch in range(epochs):
        machine.set_learning_rate(rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs)), max(1, accumulate))
        for count, index in enumerate(rng.permutation(len(x))):
            machine.train_step(x[index], int(y[index]))
            if accumulate and count % accumulate == accumulate - 1:
                machine.apply()
    return before, accuracy()


SLICED = Scheme(
    {
        "stem": LayerUpdate(True, Slice("output", (0, 2, 3, 5, 6))),
        "depthwise": LayerUpdate(True, Slice("input", (1, 2, 4, 5, 7))),
        "other": LayerUpdate(True, Slice("input", (0, 1, 2, 6))),
        "point": LayerUpdate(True, Slice("all")),
    }
)
LEARNS = {
    "master": (all_weights(task()), 0.05, 8, 0),
    "stochastic": (all_weights(task()).but(update="stochastic"), 0.05, 8, 0),
    "batches": (all_weights(task()).but(accumulate=True), 0.05, 10, 4),
    "slices": (SLICED, 0.05, 8, 0),
    "int8": (all_weights(task()).but(gradients="int8"), 0.05, 8, 0),
    "int8-stochastic": (all_weights(task()).but(gradients="int8", update="stochastic"), 0.05, 8, 0),
    "int8-batches": (all_weights(task()).but(gradients="int8", accumulate=True), 0.05, 10, 4),
    "momentum": (all_weights(task()).but(optimizer=Optimizer("momentum", 0.9)), 0.01, 8, 0),
    "momentum, batches": (all_weights(task()).but(accumulate=True, optimizer=Optimizer("momentum", 0.9)), 0.02, 10, 4),
    "sign": (all_weights(task()).but(accumulate=True, optimizer=Optimizer("sign")), 0.004, 10, 4),
    "lion": (all_weights(task()).but(optimizer=Optimizer("lion", 0.9, 0.99)), 0.0005, 8, 0),
    "adam": (all_weights(task()).but(optimizer=Optimizer("adam", 0.9, 0.999)), 0.002, 8, 0),
    "adam, stochastic": (
        all_weights(task()).but(update="stochastic", accumulate=True, optimizer=Optimizer("adam", 0.9, 0.999)),
        0.004, 10, 4,
    ),
    "frugal": (all_weights(task()).but(optimizer=Optimizer("adam", 0.9, 0.999, stateful=0.5)), 0.002, 8, 0),
    "decay and clip": (all_weights(task()).but(optimizer=Optimizer(weight_decay=0.001, clip=2.0)), 0.05, 8, 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEARNS)
def test_a_small_net_learns_the_direction_of_stripes(kind: str) -> None:
    scheme, rate, epochs, batch = LEARNS[kind]
    before, after = accuracy_after(training_graph(task(), scheme.but(classes=4)), rate, epochs, batch)
    assert before < 0.5
    assert after >= 0.95, after


def test_truncating_updates_do_not_learn_them() -> None:
    """The same network, data, rate and epochs as "master": what is cut off is what it would have learned."""
    scheme, rate, epochs, batch = LEARNS["master"]
    _, after = accuracy_after(training_graph(task(), scheme.but(classes=4, update="truncate")), rate, epochs, batch)
    assert after < 0.6, after


def test_the_head_alone_does_not_learn_them() -> None:
    """So what the test above sees are the layers before it."""
    _, after = accuracy_after(training_graph(task(), Scheme(classes=4)), 0.05, 8)
    assert after < 0.9, after
