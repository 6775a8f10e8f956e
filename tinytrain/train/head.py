# SPDX-License-Identifier: Apache-2.0
"""The classifier as it is trained: int16 weights, int32 logits; the model's own, or a new one of N classes."""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node, Quantization, Role, Tensor
from tinytrain.ops import add_node
from tinytrain.train.scheme import Scheme, classifier_node

LOGITS = "logits"
# A new head's weights may grow until features of this many int8 steps (root mean square) move a logit by LOGIT_SPAN.
TYPICAL_FEATURE, LOGIT_SPAN = 4.0, 16.0


def with_trained_head(graph: Graph, scheme: Scheme) -> Graph:
    """The graph up to its classifier, which becomes a `classifier` node with parameters; what followed is dropped."""
    graph = graph.copy()
    old = classifier_node(graph)
    index = graph.nodes.index(old)
    graph.nodes = graph.nodes[:index]
    x = graph[old.inputs[0]]
    graph.outputs = [x.name]
    tail = {name: graph[name] for name in old.inputs}
    graph.drop_unused_tensors()
    weight, scale, bias = (
        _new_head(x, scheme.classes) if scheme.classes else _own_head(tail[old.inputs[1]], tail[old.inputs[2]])
    )
    names = [f"{old.name}.head.{part}" for part in ("bias", "weight")]
    # a master keeps what is smaller than a bias step; the int16 weight is its own
    master = f"{names[0]}.master" if scheme.update == "master" else None
    graph.add_tensor(
        Tensor(names[0], bias.shape, "int32", Role.PARAMETER, Quantization(x.scale * scale, 0, 0), bias, master=master)
    )
    graph.add_tensor(Tensor(names[1], weight.shape, "int16", Role.PARAMETER, Quantization(scale, 0, 0), weight))
    if master:
        graph.add_tensor(Tensor(master, bias.shape, "int16", Role.MASTER))
    add_node(graph, Node("classifier", old.name, (x.name, *names), (LOGITS,), {"scaling": "qas"}, old.origin))
    graph.outputs = [LOGITS]
    return graph


def _own_head(bias: Tensor, weight: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The model's int8 classifier at 8 more bits: (int16 weight, its scales, int32 bias)."""
    assert weight.data is not None and bias.data is not None and weight.quantization is not None
    classes = weight.shape[0]
    scale = np.broadcast_to(weight.quantization.scale, (classes,)) / 256
    fine = np.clip(bias.data.astype(np.int64) * 256, -(2**31), 2**31 - 1).astype(np.int32)
    wide = np.clip(weight.data.reshape(classes, -1).astype(np.int16), -127, 127) * 256
    return wide.astype(np.int16), scale, fine


def _new_head(x: Tensor, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Zero weights: the loss of a linear classifier is convex, and zero gives every class the same probability."""
    largest = LOGIT_SPAN / (TYPICAL_FEATURE * x.scale * np.sqrt(x.size))
    scale = np.full(classes, largest / 32512)
    return np.zeros((classes, x.size), np.int16), scale, np.zeros(classes, np.int32)
