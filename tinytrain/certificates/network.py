# SPDX-License-Identifier: Apache-2.0
"""A network's certificate: every parameter's integer gradient beside that of the same network in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tinytrain.certificates.integer import GradientMeter, answer
from tinytrain.errors import DataError
from tinytrain.floating import TorchModel, cosine, relative_error, torch_module
from tinytrain.graph import Graph
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.ops import evaluate
from tinytrain.program import lower
from tinytrain.train import Optimizer, Scheme, training_graph

Progress = Callable[[str, int, int], None]
STEPS = 20  # of the loss curves
STEP_SHARE = 0.25  # of the loss that one step would take away, were the loss linear: chooses the rate


@dataclass(frozen=True)
class Row:
    """One trained tensor. cosine, error (relative, Euclidean) of the integer gradient, the mean over all samples.

    same:  the float network is given the int8 network's activations: what differs is the gradients' arithmetic
    float: the float network computes its own: roundings of all activations differ, too
    norm:  length of the float network's gradient (same activations)
    """

    name: str
    size: int
    norm: float
    cosine_same: float
    error_same: float
    cosine_float: float
    error_float: float

    @property
    def short_name(self) -> str:
        """Without the scopes, and the fused layers, that TFLite's names list."""
        return "/".join(self.name.split(";")[0].split("/")[-2:])


@dataclass(frozen=True)
class Curve:
    """The losses of one way to train: "integer", "rounded" or "float"."""

    name: str
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """The rows of a network, and loss curves of training on all samples at once, at the same rate.

    integer: on the C runtime. rounded: in torch, with weights and activations rounded as int8 holds them.
    float:   in torch, nothing rounded: an update smaller than half a weight's int8 step counts at once.
    """

    model: str
    samples: int
    rows: tuple[Row, ...]
    rate: float
    curves: tuple[Curve, ...]

    @property
    def worst(self) -> Row:
        """The row of the smallest cosine under the same activations."""
        return min(self.rows, key=lambda row: row.cosine_same)

    def distance(self, name: str) -> float:
        """The largest difference between the loss of a step and that of another curve, as a share of the first loss."""
        losses = {curve.name: np.array(curve.losses) for curve in self.curves}
        difference = np.abs(losses["integer"] - losses[name]).max(initial=0)
        return float(difference / max(losses["integer"][0], 1e-9))

    def holds(self, threshold: float) -> bool:
        """Whether every cosine under the same activations reaches the threshold."""
        return self.worst.cosine_same >= threshold

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "worst": self.worst.name}


def certify_network(
    graph: Graph, scheme: Scheme, samples: np.ndarray, labels: np.ndarray, rate: float | None = None,
    steps: int = STEPS, progress: Progress | None = None,
) -> Certificate:  # fmt: skip
    """Compare the training of an int8 graph under a scheme with torch.

    samples: int8 [N, *input shape]; labels: of the model's own classes, as a new head of zeros sends no gradient back;
             or targets [N, outputs] for a loss that is given them
    rate:    of the loss curves; by default one at which a step would take away a quarter of the loss, were it linear

    Errors: ToolMissing where torch is not installed, DataError where data do not fit.
    """
    scheme = scheme.but(classes=None)
    _check(graph, scheme, samples, labels)
    show = progress or (lambda what, done, of: None)
    meter, model = GradientMeter(graph, scheme), TorchModel(graph, scheme, "float64")
    integer = _mean_integer_gradients(meter, samples, labels, show)
    runs = []
    for index, sample in enumerate(samples):
        show("int8 activations", index, len(samples))
        runs.append(evaluate(graph, {graph.inputs[0]: sample}))
    integers = {name: np.stack([run[name] for run in runs]) for name in runs[0] if graph[name].role.in_arena}
    show("torch", 0, 1)
    same, free = (aligned(meter.graph, model.gradients(samples, labels, given)) for given in (integers, None))
    rows = tuple(_row(name, integer[name], same[name], free[name]) for name in integer)
    if rate is None:
        rate = _rate(model.loss(model.forward(samples), model.answers(samples, labels)).item(), free)
    curves = loss_curves(graph, scheme, samples, labels, rate, steps, show)
    return Certificate(graph.name, len(samples), rows, rate, curves)


def _check(graph: Graph, scheme: Scheme, samples: np.ndarray, labels: np.ndarray) -> None:
    classes = scheme.loss.labels(graph[graph.outputs[0]].size)
    wrong = classes and len(labels) and not 0 <= min(labels) <= max(labels) < classes
    if not len(samples) or len(samples) != len(labels) or wrong:
        raise DataError(
            f"{len(samples)} samples with {len(labels)} labels",
            why=f"the labels are 0 to {classes - 1}" if classes else "a sample has one answer",
        )


def aligned(training: Graph, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of whole tensors as a training graph keeps them: in its order of channels, cut into its blocks."""
    orders = training.attrs["channel_orders"]
    found = {}
    for tensor in training.tensors.values():
        if not tensor.accumulator or tensor.alias_of is not None:
            continue
        base, _, block = tensor.name.partition("[")
        base = base if base in gradients else tensor.name
        whole = gradients[base]
        for axis in range(whole.ndim):
            if (base, axis) in orders:
                whole = np.take(whole, orders[base, axis], axis)
        if base != tensor.name:
            start, stop = map(int, block.rstrip("]").split(":"))
            cut = next(axis for axis in range(whole.ndim) if whole.shape[axis] != tensor.shape[axis])
            whole = np.take(whole, range(start, stop), cut)
        found[tensor.name] = whole
    return found


def loss_curves(
    graph: Graph, scheme: Scheme, samples: np.ndarray, labels: np.ndarray, rate: float, steps: int, show: Progress
) -> tuple[Curve, ...]:
    """The batch's mean loss before each of so many steps of plain gradient descent on all samples."""
    models = {
        "rounded": TorchModel(graph, scheme, activations="quantized", weights="rounded"),
        "float": TorchModel(graph, scheme),
    }
    curves = [Curve("integer", _integer_curve(graph, scheme, samples, labels, rate, steps, show))]
    for name, model in models.items():
        curves.append(Curve(name, _torch_curve(model, samples, labels, rate, steps, show)))
    return tuple(curves)


def _integer_curve(
    graph: Graph, scheme: Scheme, samples: np.ndarray, labels: np.ndarray, rate: float, steps: int, show: Progress
) -> tuple[float, ...]:
    training = training_graph(graph, scheme.but(accumulate=True, optimizer=Optimizer()))
    machine, losses = Machine(lower(training, lay_out(training))), []
    for step in range(steps + 1):
        show("integer training", step, steps + 1)
        # in a first pass nothing moves: exponents find their place
        machine.set_learning_rate(rate / len(samples) if step else 0.0)
        batch = [
            machine.train_step(sample, **answer(scheme, label))[0]
            for sample, label in zip(samples, labels, strict=True)
        ]
        machine.apply()
        losses.append(float(np.mean(batch)))
    return tuple(losses[1:])


def _torch_curve(
    model: TorchModel, samples: np.ndarray, labels: np.ndarray, rate: float, steps: int, show: Progress
) -> tuple[float, ...]:
    optimizer, losses = torch_module().optim.SGD(model.trained(), lr=rate), []
    for step in range(steps):
        show("torch training", step, steps)
        optimizer.zero_grad()
        loss = model.loss(model.forward(samples), model.answers(samples, labels))
        loss.backward()
        model.mask_gradients()
        optimizer.step()
        losses.append(loss.item())
    return tuple(losses)


def _mean_integer_gradients(
    meter: GradientMeter, samples: np.ndarray, labels: np.ndarray, show: Progress
) -> dict[str, np.ndarray]:
    sums: dict[str, np.ndarray] = {}
    for index, (sample, label) in enumerate(zip(samples, labels, strict=True)):
        show("integer gradients", index, len(samples))
        for name, gradient in meter.gradients(sample, label).items():
            sums[name] = sums.get(name, np.zeros(())) + gradient / len(samples)
    return sums


def _row(name: str, integer: np.ndarray, same: np.ndarray, free: np.ndarray) -> Row:
    return Row(
        name, integer.size, float(np.linalg.norm(same)), cosine(integer, same), relative_error(integer, same),
        cosine(integer, free), relative_error(integer, free),
    )  # fmt: skip


def _rate(loss: float, gradients: Mapping[str, np.ndarray]) -> float:
    """Were the loss linear, a step would take STEP_SHARE of it away."""
    return STEP_SHARE * loss / max(sum(float((gradient**2).sum()) for gradient in gradients.values()), 1e-30)
