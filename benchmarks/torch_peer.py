# SPDX-License-Identifier: Apache-2.0
"""The network and scheme of a benchmark as PyTorch trains it in float32, eagerly: our steps per second stand beside it.

It is written to be fast there: channels first, one call per layer, activation functions where the model has them and no
clamp elsewhere, no gradient before the first trained layer. The same parameters train, by the same plain SGD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinytrain.floating import TorchModel
from tinytrain.floating.model import is_layer
from tinytrain.graph import Graph, Node
from tinytrain.ops import windows
from tinytrain.train import Scheme
from tinytrain.train.scheme import classifier_node


class PlainNetwork:
    """A forward graph of convolutions, additions, a mean and a classifier, on float images [N, C, H, W]."""

    def __init__(self, graph: Graph, scheme: Scheme) -> None:
        import torch

        self.torch = torch
        self.real = TorchModel(graph, scheme)  # the integers' real values
        self.graph = self.real.graph
        self.masks: list[tuple[Any, Any]] = []  # (weight, 1 where the scheme trains)
        self.trained: list[Any] = []
        head = classifier_node(graph).name
        self.layers: list[tuple[Node, Callable[..., Any]]] = []
        for node in self.graph.nodes:
            parameters = self._parameters(node, scheme, node.name == head) if is_layer(node) else ()
            self.layers.append((node, self._layer(node, *parameters)))

    def __call__(self, images: Any) -> Any:
        values = {self.graph.inputs[0]: images}
        for node, layer in self.layers:
            values[node.outputs[0]] = layer(*(values[name] for name in node.inputs if name in values))
        return values[self.graph.outputs[0]].flatten(1)

    def _parameters(self, node: Node, scheme: Scheme, is_head: bool) -> tuple[Any, Any]:
        """(weight, bias) in torch's order; those that train require gradients."""
        bias, weight = (self.real.constants[node.name, index].detach().clone() for index in (1, 2))
        if node.op == "conv2d":
            weight = weight.permute(0, 3, 1, 2).contiguous()
        elif node.op == "depthwise_conv2d":
            weight = weight.permute(2, 0, 1)[:, None].contiguous()
        made = weight, bias
        update = scheme.layers.get(node.name)
        wants = (True, True) if is_head else (bool(update and update.weights), bool(update and update.bias))
        for value, wanted in zip(made, wants, strict=True):
            value.requires_grad_(wanted)
            self.trained += [value] if wanted else []
        if update and update.weights and update.weights.axis != "all":
            mask = self.torch.zeros_like(made[0])
            channels = self.torch.tensor(list(update.weights.channels))
            axis = 1 if update.weights.axis == "input" and node.op == "conv2d" else 0
            self.masks.append((made[0], mask.index_fill_(axis, channels, 1)))
        return made

    def _layer(self, node: Node, weight: Any = None, bias: Any = None) -> Callable[..., Any]:
        functional = self.torch.nn.functional
        clamp = self._clamp(node)
        match node.op:
            case "conv2d" | "depthwise_conv2d":
                top, bottom, left, right = windows.padding_of(node)
                assert (top, left) == (bottom, right), f"'{node.name}' pads one side more than the other"
                groups = weight.shape[0] if node.op == "depthwise_conv2d" else 1
                strides = windows.strides_of(node)
                return lambda x: clamp(functional.conv2d(x, weight, bias, strides, (top, left), 1, groups))
            case "add":
                return lambda a, b: clamp(a + b)
            case "mean" | "average_pool2d":
                return lambda x: x.mean((2, 3))
            case "classifier" | "fully_connected":
                return lambda x: functional.linear(x.flatten(1), weight.reshape(weight.shape[0], -1), bias)
            case "reshape":
                return lambda x: x.flatten(1)
        raise ValueError(f"'{node.name}' ({node.op}) has no plain torch form here")

    def _clamp(self, node: Node) -> Callable[[Any], Any]:
        """The activation function: the range of integers says it where nothing below zero has one."""
        y = self.graph[node.outputs[0]]
        low, high = node.attrs.get("clamp", (-128, 127))
        if y.quantization is None or low != y.zero_point:
            return lambda value: value
        return lambda value: self.torch.clamp(value, 0, (high - y.zero_point) * y.scale)


def training_step(graph: Graph, scheme: Scheme, batch: int, rate: float) -> Callable[[int], object]:
    """A function that takes one SGD step on a random batch; one thread."""
    import torch

    torch.set_num_threads(1)
    network = PlainNetwork(graph, scheme)
    optimizer = torch.optim.SGD(network.trained, lr=rate)
    height, width, channels = graph[graph.inputs[0]].shape
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch, channels, height, width), generator=generator) * 2 - 1
    labels = torch.randint(0, scheme.classes or 2, (batch,), generator=generator)

    def step(_: int) -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        for weight, mask in network.masks:
            weight.grad *= mask
        optimizer.step()
        return loss

    return step
