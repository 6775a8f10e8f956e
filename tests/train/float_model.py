# SPDX-License-Identifier: Apache-2.0
"""The float twin of an int8 network in torch, built from its dequantized weights, for gradients to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tinytrain.graph import Graph, Node
from tinytrain.train.head import with_trained_head
from tinytrain.train.scheme import Scheme

torch = pytest.importorskip("torch")
F = torch.nn.functional
DOUBLE = torch.float64


class FloatModel:
    """Parameters are leaves in real units under the names of the integer graph's tensors.

    As it is, an ordinary float network whose activations are clamped. With `integers` every activation takes the value
    the int8 network gave it, and gradients pass straight through: what is left to compare is the gradients' arithmetic.
    """

    def __init__(self, graph: Graph, scheme: Scheme | None = None) -> None:
        self.graph = with_trained_head(graph, scheme or Scheme())
        self.integers: Mapping[str, np.ndarray] | None = None
        self.parameters: dict[str, torch.Tensor] = {}
        for node in self.graph.nodes:
            if node.op in ("conv2d", "depthwise_conv2d", "fully_connected", "classifier"):
                self._add_parameters(node)

    def gradients(self, sample: np.ndarray, label: int) -> dict[str, np.ndarray]:
        """d loss / d parameter."""
        loss = self.loss(sample, label)
        names = list(self.parameters)
        results = torch.autograd.grad(loss, [self.parameters[name] for name in names])
        return {name: result.numpy() for name, result in zip(names, results, strict=True)}

    def loss(self, sample: np.ndarray, label: int) -> torch.Tensor:
        logits = self.run(sample)[self.graph.outputs[0]]
        return F.cross_entropy(logits[None], torch.tensor([label]))

    def run(self, sample: np.ndarray) -> dict[str, torch.Tensor]:
        """The real value of every activation."""
        x = self.graph[self.graph.inputs[0]]
        values = {x.name: (torch.from_numpy(sample.astype(np.float64)) - x.zero_point) * x.scale}
        for node in self.graph.nodes:
            values[node.outputs[0]] = self._node(node, values)
        return values

    def _add_parameters(self, node: Node) -> None:
        x, (bias, weight) = self.graph[node.inputs[0]], (self.graph[name] for name in node.inputs[1:3])
        shape = [1] * len(weight.shape)
        axis = weight.quantization.axis or 0
        shape[axis] = -1
        scales = np.broadcast_to(weight.quantization.scale, (weight.shape[axis],))
        for tensor, scale in ((weight, scales.reshape(shape)), (bias, x.scale * scales)):
            self.parameters[tensor.name] = torch.tensor(tensor.data * scale, dtype=DOUBLE, requires_grad=True)

    def _node(self, node: Node, values: dict[str, torch.Tensor]) -> torch.Tensor:
        ins = [values[name] if name in values else self.parameters[name] for name in node.inputs]
        attrs = node.attrs
        match node.op:
            case "classifier":
                return ins[2] @ ins[0].reshape(-1) + ins[1]
            case "fully_connected":
                y = ins[2] @ ins[0].reshape(-1) + ins[1]
            case "conv2d":
                y = _image(
                    F.conv2d(_batch(_padded(ins[0], attrs)), ins[2].permute(0, 3, 1, 2), ins[1], attrs["strides"])
                )
            case "depthwise_conv2d":
                kernel = ins[2].permute(2, 0, 1)[:, None]
                y = _image(
                    F.conv2d(_batch(_padded(ins[0], attrs)), kernel, ins[1], attrs["strides"], groups=ins[0].shape[2])
                )
            case "add":
                y = ins[0] + ins[1]
            case "mul":
                y = ins[0] * ins[1]
            case "requantize":
                y = ins[0]
            case "mean":
                y = ins[0].mean(dim=attrs["axes"], keepdim=attrs["keepdims"])
            case "reshape":
                return ins[0].reshape(self.graph[node.outputs[0]].shape)
            case "pad":
                return F.pad(ins[0], [n for pair in reversed(attrs["padding"]) for n in pair])
            case "average_pool2d":
                ones = F.avg_pool2d(_batch(_padded(torch.ones_like(ins[0]), attrs)), attrs["kernel"], attrs["strides"])
                y = _image(F.avg_pool2d(_batch(_padded(ins[0], attrs)), attrs["kernel"], attrs["strides"]) / ones)
            case "max_pool2d":
                y = _image(F.max_pool2d(_batch(_padded(ins[0], attrs, -1e9)), attrs["kernel"], attrs["strides"]))
        return self._quantized(node, y)

    def _quantized(self, node: Node, y: torch.Tensor) -> torch.Tensor:
        """The output as its integers can hold it; where the clamp is active, or about to be, no gradient passes."""
        tensor = self.graph[node.outputs[0]]
        low, high = node.attrs["clamp"]
        steps = y.detach() / tensor.scale + tensor.zero_point
        if self.integers is not None:
            exact = torch.from_numpy(self.integers[tensor.name].astype(np.float64))
            assert torch.all((exact - steps.clamp(low, high)).abs() < 1.01), f"'{node.name}' is not what torch computes"
            steps = exact
        nearest = torch.floor(steps + 0.5)
        inside = (nearest > low) & (nearest < high)
        held = (steps.clamp(low, high) - tensor.zero_point) * tensor.scale
        return torch.where(inside, y + (held - y).detach(), held)


def _batch(x: torch.Tensor) -> torch.Tensor:
    return x.permute(2, 0, 1)[None]


def _image(x: torch.Tensor) -> torch.Tensor:
    return x[0].permute(1, 2, 0)


def _padded(x: torch.Tensor, attrs: Any, value: float = 0.0) -> torch.Tensor:
    top, bottom, left, right = attrs["padding"]
    return F.pad(x, (0, 0, left, right, top, bottom), value=value)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 if size == 0 and np.allclose(a, b) else float((a * b).sum()) / size if size else 0.0
