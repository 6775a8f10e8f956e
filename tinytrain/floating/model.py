# SPDX-License-Identifier: Apache-2.0
"""A torch model of an int8 graph, on batches. Operators say what they compute on reals: their `floating`.

model = TorchModel(graph, scheme, dtype="float32")
optimizer = torch.optim.SGD(model.trained(), lr=0.01)
known = model.prefix(samples)                 # int8 [N, *shape]; nothing before the first trained layer is kept
loss = model.loss(model.forward_from(known), labels)
loss.backward(); model.mask_gradients(); optimizer.step()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinytrain.errors import DataError, GraphError
from tinytrain.floating.torch import torch_module
from tinytrain.graph import Graph, Node, Phase, Role, Tensor
from tinytrain.ops import lookup
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights
from tinytrain.train.head import with_trained_head
from tinytrain.train.objective import loss_operator
from tinytrain.train.scheme import classifier_node

ACTIVATIONS = ("float", "masked", "quantized")
WEIGHTS = ("float", "rounded")
LIMITS = {"int8": 127, "int16": 127 * 256, "int32": 2**31 - 1}  # of a trained integer


class TorchModel:
    """The network of a forward graph, with the head that a scheme trains; `parameters` are leaves in real units.

    Gradient descent on these leaves at a learning rate is what the integer network does at the same rate.

    graph:       an int8 graph from a front end
    scheme:      which parameters require gradients; None: all weights and biases. Slices are masks: `mask_gradients`
    dtype:       "float32" or "float64"
    activations: "float": held within the clamp's real range, otherwise exact: an ordinary float network.
                 "masked": the same values, but no gradient passes where the nearest integer is at a bound of the clamp,
                 which is where the int8 network lets none pass (half a step around a ReLU's zero).
                 "quantized": rounded to the int8 network's integers, too; gradients pass straight through the rounding.
    weights:     "float": as they are. "rounded": what trains is used as the int8 network uses it, rounded to integers
                 and held within their range; gradients pass straight through, and the leaves keep their fractions, as
                 masters do.

    Where `integers` are given with a batch (int8 [N, *shape] by tensor name, as the int8 network computed them), every
    activation takes exactly these values: what is left of a difference is the gradients' arithmetic alone.
    """

    def __init__(
        self, graph: Graph, scheme: Scheme | None = None, dtype: str = "float32", activations: str = "float",
        weights: str = "float",
    ) -> None:  # fmt: skip
        if activations not in ACTIVATIONS or weights not in WEIGHTS or dtype not in ("float32", "float64"):
            raise DataError(
                f"a torch model with {activations} activations and {weights} weights in {dtype}",
                why="there is no such mode",
            )
        self._torch = torch_module()
        self.scheme = all_weights(graph) if scheme is None else scheme
        self.graph = with_trained_head(graph, self.scheme)
        self.dtype, self.activations, self.weights = getattr(self._torch, dtype), activations, weights
        self.constants: dict[tuple[str, int], Any] = {}  # (node, input index) -> leaf, or constant
        self.parameters: dict[str, Any] = {}
        self.steps: dict[str, Any] = {}  # real value of one integer step of each parameter
        self.masks: dict[str, Any] = {}  # of trained parameters: 1 where the scheme trains, 0 elsewhere
        for node in self.graph.nodes:
            self._add_constants(node)
        head = classifier_node(graph).name
        for node in self.graph.nodes:
            whole = LayerUpdate(True, Slice("all")) if node.name == head else LayerUpdate()
            self._add_masks(node, self.scheme.layers.get(node.name, whole))
        # the first node that reads a trained parameter
        self.start = next(i for i, node in enumerate(self.graph.nodes) if set(node.inputs) & set(self.masks))

    # --- execution ---

    def forward(self, samples: np.ndarray, integers: Mapping[str, np.ndarray] | None = None) -> Any:
        """Logits [N, classes] of int8 samples [N, *shape]."""
        return self.values(samples, integers)[self.graph.outputs[0]]

    def values(self, samples: np.ndarray, integers: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Every activation in real units, by name."""
        x = self.graph.inputs[0]
        return self._run({x: self.real(x, samples)}, self.graph.nodes, integers)

    def prefix(self, samples: np.ndarray) -> dict[str, Any]:
        """The activations [N, ...] which the trained part reads from the frozen part, or from the input."""
        with self._torch.no_grad():
            x = self.graph.inputs[0]
            known = self._run({x: self.real(x, samples)}, self.graph.nodes[: self.start], None)
        return {name: known[name] for node in self.graph.nodes[self.start :] for name in node.inputs if name in known}

    def forward_from(self, known: Mapping[str, Any]) -> Any:
        """Logits from what `prefix` returned (or some samples of it: index the batch dimension of each)."""
        return self._run(dict(known), self.graph.nodes[self.start :], None)[self.graph.outputs[0]]

    def real(self, name: str, integers: np.ndarray) -> Any:
        """The real values of an activation's integers."""
        tensor = self.graph[name]
        if integers.shape[1:] != tensor.shape:
            shape = ", ".join(map(str, tensor.shape))
            raise DataError(f"a batch of '{name}' is {list(integers.shape)}, the model takes [N, {shape}]")
        return self._tensor((integers.astype(np.float64) - tensor.zero_point) * tensor.scale)

    # --- training ---

    def trained(self) -> list[Any]:
        """The leaves that the scheme trains, for an optimizer."""
        return [self.parameters[name] for name in self.masks]

    def loss(self, outputs: Any, answers: Any) -> Any:
        """The mean loss of a batch, of the scheme's kind.

        answers: labels [N]; or values [N, outputs] for "mean_squared_error" (an auto-encoder's: `real` of its samples)
        """
        op, attrs = loss_operator(self.scheme.loss)
        dtype = self._torch.int64 if self.scheme.loss.labels(outputs.shape[1]) else self.dtype
        node = Node(op, "loss", (), (), attrs, phase=Phase.LOSS)
        return lookup(op).floating(self.graph, node, outputs, self._torch.as_tensor(answers).to(dtype)).mean()

    def answers(self, samples: np.ndarray, answers: np.ndarray) -> Any:
        """What `loss` compares outputs with: the samples themselves where the scheme says so."""
        loss = self.scheme.loss
        itself = loss.kind == "mean_squared_error" and not loss.needs_target
        return self.real(self.graph.inputs[0], samples) if itself else answers

    def mask_gradients(self) -> None:
        """After backward(): zeros where the scheme does not train."""
        for name, mask in self.masks.items():
            if self.parameters[name].grad is not None:
                self.parameters[name].grad *= mask

    def gradients(
        self, samples: np.ndarray, answers: np.ndarray, integers: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """d (mean loss of the batch) / d parameter, of everything that trains. answers: as `loss` takes them."""
        loss = self.loss(self.forward(samples, integers), self.answers(samples, answers))
        results = self._torch.autograd.grad(loss, self.trained())
        return {name: (g * mask).numpy() for (name, mask), g in zip(self.masks.items(), results, strict=True)}

    # --- construction ---

    def _add_constants(self, node: Node) -> None:
        """Real values of a node's parameters and constants; a tensor that several nodes read is one leaf."""
        for index, name in enumerate(node.inputs):
            tensor = self.graph[name]
            if tensor.role is Role.ACTIVATION:
                continue
            scale = _bias_scale(self.graph, node) if is_layer(node) and index == 1 else scale_of(tensor)
            assert tensor.data is not None
            zero_point = tensor.zero_point if tensor.quantization else 0
            real = (tensor.data.astype(np.float64) - zero_point) * scale
            known = self.parameters.get(name)
            if known is None or not np.array_equal(known.detach().numpy(), self._tensor(real).numpy()):
                known = self._tensor(real)  # a bias means something else behind another scale
                if name not in self.parameters:
                    self.parameters[name], self.steps[name] = known, self._tensor(scale)
            self.constants[node.name, index] = known

    def _add_masks(self, node: Node, update: LayerUpdate) -> None:
        if not is_layer(node):
            return
        _, bias, weight = node.inputs
        if update.bias:
            self.masks[bias] = self._torch.ones_like(self.parameters[bias])
        if update.weights is not None:
            mask = self._torch.ones_like(self.parameters[weight])
            if update.weights.axis != "all":
                axes = lookup(node.op).weight_axes
                assert axes is not None
                axis = axes[update.weights.axis == "input"]
                frozen = sorted(set(range(mask.shape[axis])) - set(update.weights.channels))
                mask.index_fill_(axis, self._torch.tensor(frozen), 0)
            self.masks[weight] = mask
        for name in (bias, weight):
            self.parameters[name].requires_grad_(name in self.masks)

    def _tensor(self, array: np.ndarray) -> Any:
        return self._torch.tensor(np.ascontiguousarray(array), dtype=self.dtype)

    # --- one node ---

    def _run(
        self, known: dict[str, Any], nodes: list[Node], integers: Mapping[str, np.ndarray] | None
    ) -> dict[str, Any]:
        for node in nodes:
            known[node.outputs[0]] = self.node_value(node, known, integers)
        return known

    def node_value(self, node: Node, known: Mapping[str, Any], integers: Mapping[str, np.ndarray] | None = None) -> Any:
        """The output of one node, from the activations it reads."""
        inputs = [
            self._constant(node, index) if (node.name, index) in self.constants else known[name]
            for index, name in enumerate(node.inputs)
        ]
        y = lookup(node.op).floating(self.graph, node, *inputs)
        return self._held(node, y, integers) if lookup(node.op).saturates else y

    def _constant(self, node: Node, index: int) -> Any:
        value, name = self.constants[node.name, index], node.inputs[index]
        if self.weights == "float" or name not in self.masks:
            return value
        step, limit = self.steps[name], LIMITS[self.graph[name].dtype]
        rounded = self._torch.floor(value.detach() / step + 0.5).clamp(-limit, limit) * step
        return value + (rounded - value).detach()

    def _held(self, node: Node, y: Any, integers: Mapping[str, np.ndarray] | None) -> Any:
        """The output as the network holds it."""
        tensor, torch = self.graph[node.outputs[0]], self._torch
        low, high = node.attrs.get("clamp", (-128, 127))
        if integers is None and self.activations == "float":
            return y.clamp((low - tensor.zero_point) * tensor.scale, (high - tensor.zero_point) * tensor.scale)
        steps = y.detach() / tensor.scale + tensor.zero_point
        nearest = torch.floor(steps + 0.5)
        if integers is None:
            steps = (steps if self.activations == "masked" else nearest).clamp(low, high)
        else:
            exact = self._tensor(integers[tensor.name])
            if not bool(torch.all((exact - steps.clamp(low, high)).abs() < 1.01)):
                raise GraphError(
                    f"'{node.name}' ({node.op}) is not what torch computes",
                    why="an integer lies more than a step from the real value of the operator's float definition",
                )
            steps = nearest = exact
        held = (steps - tensor.zero_point) * tensor.scale
        return torch.where((nearest > low) & (nearest < high), y + (held - y).detach(), held)


def is_layer(node: Node) -> bool:
    """Whether the node's inputs are (x, bias, weight)."""
    return node.op == "classifier" or lookup(node.op).weight_axes is not None


def scale_of(tensor: Tensor) -> np.ndarray:
    """Of a constant, shaped to multiply it."""
    if tensor.quantization is None:
        raise GraphError(f"the constant '{tensor.name}' has no scale")
    shape = [1] * len(tensor.shape)
    if tensor.quantization.scale.size > 1:
        shape[tensor.quantization.axis or 0] = -1
    return tensor.quantization.scale.reshape(shape)


def _bias_scale(graph: Graph, node: Node) -> np.ndarray:
    """A bias is in units of the input's scale times the weight's, per output channel."""
    quantization = graph[node.inputs[2]].quantization
    assert quantization is not None
    return np.broadcast_to(graph[node.inputs[0]].scale * quantization.scale, graph[node.inputs[1]].shape)
