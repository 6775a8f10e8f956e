# SPDX-License-Identifier: Apache-2.0
"""Small int8 networks for tests: built by hand or at random, with weights that keep activations spread out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node, Quantization, Role, Tensor, verify
from tinytrain.ops import add_node
from tinytrain.train import LayerUpdate, Loss, Scheme, Slice, classifier_node, trainable_layers
from tinytrain.train.scheme import channel_count

SCALE = 0.03
FULL = (-128, 127)


class Net:
    """Adds layers one by one; every method returns the name of the tensor it makes."""

    def __init__(self, rng: np.random.Generator, name: str = "net") -> None:
        self.rng, self.graph = rng, Graph(name)

    def shape(self, x: str) -> tuple[int, ...]:
        return self.graph[x].shape

    def input(self, shape: Sequence[int], scale: float = SCALE, zero_point: int = 3) -> str:
        self.graph.add_tensor(
            Tensor("x", tuple(shape), "int8", quantization=Quantization.per_tensor(scale, zero_point))
        )
        self.graph.inputs = ["x"]
        return "x"

    def conv(
        self, name: str, x: str, co: int, kernel: int | tuple[int, int] = 1, stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int, int, int] = 0, relu: bool = False, zero_point: int = 0, scale: float = SCALE,
    ) -> str:  # fmt: skip
        ci, (kh, kw) = self.shape(x)[2], _several(kernel, 2)
        weight = self._weight(name, x, (co, kh, kw, ci), 0, kh * kw * ci, scale)
        return self._layer("conv2d", name, x, weight, co, stride, pad, relu, zero_point, scale, "double")

    def depthwise(
        self, name: str, x: str, kernel: int | tuple[int, int] = 3, stride: int | tuple[int, int] = 1,
        pad: int | tuple[int, int, int, int] = 1, relu: bool = False, multiplier: int = 1, zero_point: int = 0,
        scale: float = SCALE,
    ) -> str:  # fmt: skip
        co, (kh, kw) = self.shape(x)[2] * multiplier, _several(kernel, 2)
        weight = self._weight(name, x, (kh, kw, co), 2, kh * kw, scale)
        return self._layer("depthwise_conv2d", name, x, weight, co, stride, pad, relu, zero_point, scale, "double")

    def dense(self, name: str, x: str, co: int, relu: bool = False, zero_point: int = 0, scale: float = SCALE) -> str:
        ci = self.graph[x].size
        weight = self._weight(name, x, (co, ci), 0, ci, scale)
        return self._layer("fully_connected", name, x, weight, co, 0, 0, relu, zero_point, scale, "single")

    def add(
        self, name: str, a: str, b: str, relu: bool = False, zero_point: int = 0, scale: float = 1.5 * SCALE
    ) -> str:
        return self._node("add", name, (a, b), {"clamp": _clamp(relu, zero_point)}, scale, zero_point)

    def gate(self, name: str, a: str, b: str, zero_point: int = 0) -> str:
        return self._node("mul", name, (a, b), {"clamp": FULL}, SCALE, zero_point)

    def relu(self, name: str, x: str, scale: float = 0.7 * SCALE, zero_point: int = -128) -> str:
        return self._node("requantize", name, (x,), {"clamp": _clamp(True, zero_point)}, scale, zero_point)

    def pool(self, name: str, x: str, kind: str = "average", kernel: int = 2, stride: int = 2, pad: int = 0) -> str:
        attrs = {"kernel": (kernel, kernel), "strides": (stride, stride), "padding": (pad,) * 4, "clamp": FULL}
        tensor = self.graph[x]
        return self._node(f"{kind}_pool2d", name, (x,), attrs, tensor.scale, tensor.zero_point)

    def mean(self, name: str, x: str, keepdims: bool = False, scale: float = 0.5 * SCALE, zero_point: int = -7) -> str:
        return self._node("mean", name, (x,), {"axes": (0, 1), "keepdims": keepdims, "clamp": FULL}, scale, zero_point)

    def pad(self, name: str, x: str, padding: tuple[tuple[int, int], ...] = ((0, 1), (1, 0), (0, 0))) -> str:
        tensor = self.graph[x]
        return self._node("pad", name, (x,), {"padding": padding}, tensor.scale, tensor.zero_point)

    def reshape(self, name: str, x: str) -> str:
        tensor = self.graph[x]
        return self._node("reshape", name, (x,), {"shape": (tensor.size,)}, tensor.scale, tensor.zero_point)

    def done(self, y: str) -> Graph:
        self.graph.outputs = [y]
        return verify(self.graph)

    def _weight(self, name: str, x: str, shape: tuple[int, ...], axis: int, fan_in: int, y_scale: float) -> str:
        """Weights whose sums over inputs of 40 steps' deviation make outputs of about 40 steps' deviation."""
        typical = y_scale / (self.graph[x].scale * 73 * np.sqrt(fan_in))
        scales = typical * self.rng.uniform(0.6, 1.6, shape[axis])
        data = self.rng.integers(-127, 127, shape, endpoint=True).astype(np.int8)
        return self.constant(f"{name}.w", data, Quantization(scales, 0, axis))

    def constant(self, name: str, data: np.ndarray, quantization: Quantization | None = None) -> str:
        return self.graph.add_tensor(Tensor(name, data.shape, str(data.dtype), Role.CONSTANT, quantization, data)).name

    def _layer(
        self, op: str, name: str, x: str, weight: str, co: int, stride: int | tuple[int, int],
        pad: int | tuple[int, int, int, int], relu: bool, zero_point: int, scale: float, rounding: str,
    ) -> str:  # fmt: skip
        scales = self.graph[x].scale * self.graph[weight].quantization.scale  # type: ignore[union-attr]
        reals = self.rng.normal(0, 15 * scale, co)
        bias = self.constant(f"{name}.b", np.round(reals / scales).astype(np.int32))
        zero_point = -128 if relu and zero_point == 0 else zero_point
        attrs: dict[str, Any] = {"clamp": _clamp(relu, zero_point), "rounding": rounding}
        if stride:
            attrs |= {"strides": _several(stride, 2), "padding": _several(pad, 4)}
        return self._node(op, name, (x, bias, weight), attrs, scale, zero_point)

    def _node(
        self, op: str, name: str, inputs: tuple[str, ...], attrs: dict[str, Any], scale: float, zero_point: int
    ) -> str:
        node = Node(op, name, inputs, (f"{name}.y",), attrs, name)
        add_node(self.graph, node, quantization=Quantization.per_tensor(scale, zero_point))
        return f"{name}.y"


def _several(value: Any, count: int) -> tuple[int, ...]:
    """One number for all, or one each."""
    return (value,) * count if isinstance(value, int) else value


def _clamp(relu: bool, zero_point: int) -> tuple[int, int]:
    return (max(-128, zero_point), 127) if relu else FULL


def chain(seed: int = 0, classes: int = 4) -> Graph:
    """conv 3x3 -> conv 1x1 (ReLU) -> conv 1x1 -> mean -> dense: nothing but what schemes are about."""
    net = Net(np.random.default_rng(seed), "chain")
    y = net.conv("stem", net.input((6, 6, 3)), 8, 3, 2, 1, relu=True)
    y = net.conv("middle", y, 6, relu=True)
    y = net.conv("last", y, 5, zero_point=-9)
    return net.done(net.dense("head", net.mean("pool", y), classes))


def residual(seed: int = 0, classes: int = 4) -> Graph:
    """Two inverted bottlenecks on one residual stream, zero points away from 0."""
    net = Net(np.random.default_rng(seed), "residual")
    stream = net.conv("stem", net.input((8, 8, 3), zero_point=-11), 6, 3, 2, 1, zero_point=5)
    for index in range(2):
        y = net.conv(f"block{index}.expand", stream, 12, relu=True)
        y = net.depthwise(f"block{index}.depthwise", y, relu=True, zero_point=-100)
        y = net.conv(f"block{index}.project", y, 6, zero_point=9)
        stream = net.add(f"block{index}.add", stream, y, zero_point=-6)
    y = net.conv("last", stream, 10, relu=True)
    return net.done(net.dense("head", net.mean("pool", y), classes))


def random_net(rng: np.random.Generator, depth: int | None = None) -> Graph:
    """A random network over all operators with a gradient, ending in a classifier."""
    net = Net(rng, "random")
    y = net.input((int(rng.integers(4, 9)), int(rng.integers(4, 9)), int(rng.integers(1, 5))), zero_point=_point(rng))
    for index in range(int(rng.integers(2, 6)) if depth is None else depth):
        y = _random_layer(net, rng, f"n{index}", y)
    classes = int(rng.integers(2, 6))
    match rng.integers(3):
        case 0:
            y = net.dense("head", net.mean("pool", y), classes)
        case 1:
            y = net.conv("head", net.mean("pool", y, keepdims=True), classes)
        case _:
            y = net.dense("head", net.reshape("flat", y), classes)
    return net.done(y)


def _point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, -17, 0, 5, 127]))


def _random_layer(net: Net, rng: np.random.Generator, name: str, x: str) -> str:
    height, width, channels = net.shape(x)
    relu, point = bool(rng.integers(2)), int(rng.choice([-17, 0, 5]))
    kind = rng.choice(["conv", "conv", "pointwise", "depthwise", "add", "branch", "pool", "pad", "relu", "gate"])
    match kind:
        case "conv":
            stride = int(rng.integers(1, 3))
            return net.conv(name, x, int(rng.integers(1, 8)), 3, stride, 1, relu, point)
        case "pointwise":
            return net.conv(name, x, int(rng.integers(2, 8)), relu=relu, zero_point=point)
        case "depthwise":
            multiplier = int(rng.integers(1, 3)) if channels < 8 else 1
            return net.depthwise(name, x, relu=relu, multiplier=multiplier, zero_point=point)
        case "add":
            other = net.conv(f"{name}.side", x, channels, 3, 1, 1, relu, point)
            return net.add(name, x, other, relu, point)
        case "branch":
            left = net.conv(f"{name}.left", x, 4, relu=relu, zero_point=point)
            right = net.depthwise(f"{name}.right", left, relu=True)
            return net.add(name, net.relu(f"{name}.relu", left), right)
        case "pool" if min(height, width) >= 3:
            overlapping = bool(rng.integers(2))
            return net.pool(name, x, str(rng.choice(["average", "max"])), 2 + overlapping, 2, int(overlapping))
        case "pad":
            return net.pad(name, x)
        case "gate":
            gate = net.conv(f"{name}.squeeze", net.mean(f"{name}.mean", x, keepdims=True), channels)
            return net.gate(name, x, gate, point)
    return net.relu(name, x)


def random_scheme(rng: np.random.Generator, graph: Graph) -> Scheme:
    """Each layer: nothing, bias, all weights, or a slice; with a new head or the own one; either update and width."""
    layers = {}
    for node in trainable_layers(graph):
        bias = bool(rng.integers(2))
        kind = rng.choice(["none", "bias", "all", "input", "output"])
        if kind == "none":
            continue
        weights = None
        if kind == "all":
            weights = Slice("all")
        elif kind in ("input", "output"):
            count = channel_count(graph, node, kind)
            chosen = sorted(int(c) for c in rng.permutation(count)[: int(rng.integers(1, count + 1))])
            weights = Slice("all") if len(chosen) == count else Slice(str(kind), tuple(chosen))
        layers[node.name] = LayerUpdate(bias or kind == "bias", weights)
    classes = None if rng.integers(2) else int(rng.integers(2, 7))
    return Scheme(
        layers,
        classes,
        str(rng.choice(["master", "stochastic"])),
        bool(rng.integers(2)),
        str(rng.choice(["qas", "none"])),
        str(rng.choice(["int16", "int8"])),
    )


def with_random_loss(rng: np.random.Generator, graph: Graph, scheme: Scheme) -> Scheme:
    """The plain loss, or one of every other kind, with the outputs it needs."""
    own = graph[classifier_node(graph).outputs[0]].size
    smoothing = float(rng.choice([0.0, 0.1, 0.9]))
    match rng.integers(8):
        case 0:
            weights = tuple(float(w) for w in 10.0 ** rng.uniform(-3, 3, scheme.classes or own))
            return scheme.but(loss=Loss("cross_entropy", smoothing, weights))
        case 1:
            return scheme.but(loss=Loss("cross_entropy", 0.1))
        case 2:
            weights = tuple(float(w) for w in 10.0 ** rng.uniform(-3, 3, 2))
            return scheme.but(classes=1, loss=Loss("binary_cross_entropy", smoothing, weights))
        case 3:
            return scheme.but(loss=Loss("mean_squared_error", target="given"))
        case 4:
            return scheme.but(classes=graph[graph.inputs[0]].size, loss=Loss("mean_squared_error"))
    return scheme


def random_sample(rng: np.random.Generator, graph: Graph) -> np.ndarray:
    return rng.integers(-128, 127, graph[graph.inputs[0]].shape, endpoint=True).astype(np.int8)
