# SPDX-License-Identifier: Apache-2.0
"""An operator's certificate: its integer gradients beside finite differences and torch, within a derived bound.

A case is a forward graph of one node; `certificates()` of tests/ops/test_<operator>.py names some. From the operator
itself come the float definition (`floating`) and how far its integer gradient may be from the exact one (`error`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.ops.gradients import STEPS, step_of, with_gradient
from tests.oracle import assert_machines_equal_oracle
from tinytrain.floating import cosine, torch_module
from tinytrain.floating.model import is_layer, scale_of
from tinytrain.graph import Graph, Phase, Quantization, Role, Tensor
from tinytrain.ops import Evaluation, Operator, lookup, names
from tinytrain.ops.arithmetic import LearningRate
from tinytrain.ops.training import HYPER
from tinytrain.ops.updates import ACCUMULATOR_BITS, total_shift

GY_EXPONENT = -12


@dataclass(frozen=True)
class Row:
    """One input of one case.

    differences: largest |finite difference - autograd|, relative to the largest gradient
    bound_share: largest |integer - autograd| / the bound of that element; at most 1
    cosine:      between the integer and the float gradient
    """

    operator: str
    case: str
    input: str
    size: int
    differences: float
    bound_share: float
    cosine: float

    @property
    def holds(self) -> bool:
        return self.differences < 1e-6 and self.bound_share <= 1 and self.cosine > 0.999


def differentiable() -> list[str]:
    """The operators that have a gradient."""
    return [name for name in names() if type(lookup(name)).gradient is not Operator.gradient]


def cases_of(operator: str) -> dict[str, Graph]:
    """The certified cases by name; an AssertionError where its test file names none."""
    module = importlib.import_module(f"tests.ops.test_{operator}")
    cases: dict[str, Graph] = module.certificates() if hasattr(module, "certificates") else {}
    assert cases, f"'{operator}' has a gradient: tests/ops/test_{operator}.py needs certificates()"
    return cases


def certify(operator: str, case: str, forward: Graph, seed: int = 0) -> list[Row]:
    """A row for each input of the node that a gradient reaches."""
    checked = _Case(forward, np.random.default_rng(seed))
    got = checked.integer_gradients()
    rows = []
    for name, (gradient, bound) in got.items():
        exact, differences = checked.autograd[name], checked.finite_differences(name)
        largest = float(np.abs(exact).max(initial=1e-300))
        # the exact gradient is itself a sum in double precision
        share = np.abs(gradient - exact) / (bound + 1e-12 * largest)
        rows.append(
            Row(
                operator, case, name, exact.size, float(np.abs(differences - exact).max(initial=0)) / largest,
                float(share.max(initial=0)), cosine(gradient, exact),
            )
        )  # fmt: skip
    return rows


class _Case:
    """Data for a graph of one node: integers, their reals, and a gradient of the output."""

    def __init__(self, forward: Graph, rng: np.random.Generator) -> None:
        self.torch = torch_module()
        self.graph = _with_meanings(forward)
        (self.node,) = forward.nodes
        self.samples = {name: _distinct(rng, forward[name]) for name in forward.inputs}
        self.reals = {name: self._real(name) for name in self.node.inputs}
        y = self._output({name: self.torch.tensor(value) for name, value in self.reals.items()}).numpy()[0]
        gy = rng.integers(-32768, 32768, y.shape).astype(np.int16)
        # where rounding decides on which side of the clamp an output lies, no gradient is compared
        self.gy = np.where(self._near_a_bound(y), 0, gy).astype(np.int16)
        self.autograd = self._autograd()

    def integer_gradients(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(gradient, bound) of each input by name, in real units: activations, then weight and bias."""
        graph, results = with_gradient(self.graph, GY_EXPONENT)
        values = assert_machines_equal_oracle(graph, {**self.samples, "gy": self.gy}, STEPS)
        found = {}
        inputs = [name for name in self.node.inputs if graph[name].role is Role.ACTIVATION]
        for name, result in zip(inputs, results, strict=True):
            if result is not None:
                gradient = values[result].astype(np.float64) * step_of(graph, values, result)
                found[name] = (gradient, np.broadcast_to(_error(graph, values, result), gradient.shape))
        for name in self.node.inputs:
            if name not in inputs and is_layer(self.node):
                found[name] = self._update(name)
        return found

    def finite_differences(self, name: str, share: float = 0.1) -> np.ndarray:
        """Central differences of sum(gy * y) by every element, steps of a share of the integers' step."""
        gy, value = self.gy * 2.0**GY_EXPONENT, self.reals[name]
        quantization = self.graph[name].quantization
        assert quantization is not None
        eps = float(quantization.scale.max()) * share
        result = np.zeros(value.size)
        for index in range(value.size):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved.reshape(-1)[index] += sign * eps
                tensors = {**self.reals, name: moved}
                y = self._output({key: self.torch.tensor(array) for key, array in tensors.items()})
                sides.append(float((y.numpy()[0] * gy).sum()))
            result[index] = (sides[0] - sides[1]) / (2 * eps)
        return result.reshape(value.shape)

    def _autograd(self) -> dict[str, np.ndarray]:
        leaves = {name: self.torch.tensor(value, requires_grad=True) for name, value in self.reals.items()}
        (self._output(leaves)[0] * self.torch.tensor(self.gy * 2.0**GY_EXPONENT)).sum().backward()
        return {name: leaf.grad.numpy() for name, leaf in leaves.items()}

    def _output(self, inputs: dict[str, Any]) -> Any:
        """The float operator, clamped."""
        batch = [
            inputs[name][None] if self.graph[name].role is Role.ACTIVATION else inputs[name]
            for name in self.node.inputs
        ]
        y = lookup(self.node.op).floating(self.graph, self.node, *batch)
        return y.clamp(*self._bounds()) if lookup(self.node.op).saturates else y

    def _bounds(self) -> tuple[float, float]:
        y = self.graph[self.node.outputs[0]]
        low, high = self.node.attrs.get("clamp", (-128, 127))
        return (low - y.zero_point) * y.scale, (high - y.zero_point) * y.scale

    def _near_a_bound(self, y: np.ndarray) -> np.ndarray:
        if not lookup(self.node.op).saturates:
            return np.zeros(y.shape, bool)
        return np.min([np.abs(y - bound) for bound in self._bounds()], axis=0) <= self.graph[self.node.outputs[0]].scale

    def _real(self, name: str) -> np.ndarray:
        tensor = self.graph[name]
        integers = self.samples[name] if tensor.data is None else tensor.data
        return (integers.astype(np.float64) - tensor.zero_point) * scale_of(tensor)

    def _update(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The gradient behind the accumulator of a trained weight or bias, at a rate that uses its 31 bits."""
        tensor, exact = self.graph[name], self.autograd[name]
        unit = 2.0 ** ACCUMULATOR_BITS[tensor.dtype] / scale_of(tensor)  # of the accumulator, per (rate * gradient)
        rate = 2.0 ** float(np.floor(np.log2(2.0**28 / np.abs(exact * unit).max(initial=1e-20))))
        graph, _ = with_gradient(_accumulating(self.graph, name, rate), GY_EXPONENT)
        values = assert_machines_equal_oracle(graph, {**self.samples, "gy": self.gy}, STEPS)
        (node,) = (node for node in graph.nodes if node.phase is Phase.UPDATE)
        shift = total_shift(graph, node)
        # half a unit of the accumulator; half of what the sum's right shift drops; 30-bit products of multipliers
        bound = 0.5 / (unit * rate) + np.abs(exact) * 2.0**-29
        if shift:
            bound = bound + 2.0 ** (shift - 1 + GY_EXPONENT) * node.attrs["x_scale"]
        return values[node.outputs[0]] / STEPS / (unit * rate), np.broadcast_to(bound, exact.shape)


def _with_meanings(forward: Graph) -> Graph:
    """The graph with the quantization of its bias filled in, as training fills it in."""
    graph, (node,) = forward.copy(), forward.nodes
    if is_layer(node):
        x, bias, weight = graph.ins(node)
        assert weight.quantization is not None
        scales = x.scale * np.broadcast_to(weight.quantization.scale, bias.shape)
        graph.tensors[bias.name] = bias.but(quantization=Quantization(scales, 0, 0))
    return graph


def _accumulating(forward: Graph, name: str, rate: float) -> Graph:
    """The graph with one trained parameter, whose gradients add up."""
    graph, lr = forward.copy(), LearningRate.from_float(rate)
    pair = [lr.mantissa, lr.exponent & 0xFFFFFFFF]
    hyper = np.array([*pair, 7, 1, *pair], np.uint32)
    graph.add_tensor(Tensor(HYPER, hyper.shape, "uint32", Role.STATE, data=hyper))
    graph.tensors[name] = graph[name].but(role=Role.PARAMETER, accumulator=f"{name}.sum")
    graph.add_tensor(Tensor(f"{name}.sum", graph[name].shape, "int32", Role.OPTIMIZER))
    return graph


def _error(graph: Graph, values: dict[str, np.ndarray], gradient: str) -> Any:
    """The bound of a gradient: that of the node which writes it, plus what arrives there unchanged."""
    writers = {name: node for node in graph.nodes if node.phase is Phase.BACKWARD for name in node.outputs}
    node, total = writers.get(gradient), 0.0
    run = Evaluation(graph, values)
    while node is not None:
        total = total + lookup(node.op).error(run, node, *(values[name] for name in node.inputs))
        node = writers.get(node.inputs[0])
        assert node is None or not np.any(lookup(node.op).error(run, node, *(values[name] for name in node.inputs)))
    return total


def _distinct(rng: np.random.Generator, tensor: Tensor) -> np.ndarray:
    """Random integers, no two alike where that is possible: the gradient at a tie is a matter of taste."""
    if tensor.size <= 256:
        return rng.permutation(np.arange(-128, 128))[: tensor.size].reshape(tensor.shape).astype(np.int8)
    return rng.integers(-128, 128, tensor.shape).astype(np.int8)
