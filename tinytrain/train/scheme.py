# SPDX-License-Identifier: Apache-2.0
"""A Scheme says what is updated, and how. Plain JSON, hand-writable; the published schemes load as they stand.

    {"layers": {"conv_24": {"bias": true, "input_channels": 0.25},
                "conv_30": {"bias": true, "weights": "all"},
                "conv_41": {"bias": true}},
     "classes": 3, "update": "master", "accumulate": false,
     "optimizer": {"kind": "momentum", "beta1": 0.9}, "loss": {"kind": "cross_entropy", "label_smoothing": 0.1}}

`input_channels` and `output_channels` are a list of channels or a share (the channels of largest norm are chosen).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Node
from tinytrain.ops import lookup
from tinytrain.train.loss import Loss, parse_loss
from tinytrain.train.optimizer import Optimizer, parse_optimizer

UPDATES = ("master", "stochastic", "truncate")
SCALINGS = ("qas", "none")
GRADIENTS = ("int16", "int8")
FIELDS = ("layers", "classes", "update", "accumulate", "scaling", "gradients", "optimizer", "loss")


@dataclass(frozen=True)
class Slice:
    """Trained channels of a weight. axis: "all", "input" or "output"; channels: sorted indices along it."""

    axis: str
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerUpdate:
    """What one layer trains."""

    bias: bool = False
    weights: Slice | None = None


@dataclass(frozen=True)
class Scheme:
    """What a device trains.

    layers:     by node name
    classes:    size of a new classifier, or None to keep the model's own (it is trained in either case)
    update:     "master" keeps fractional bits beside every trained integer; "stochastic" rounds at random instead;
                "truncate" rounds toward zero, as the field's released code does, and is there to be compared with
    accumulate: whether gradients of several samples are summed before the parameters change
    scaling:    "qas" scales each channel's update by its quantization (the default); "none" does not, and is there to
                be compared with (the classifier, whose scale is ours, keeps it)
    gradients:  mantissas of gradients: "int16", or "int8" with stochastic rounding where memory is scarce
    optimizer:  how gradients change parameters
    loss:       what training makes small
    """

    layers: Mapping[str, LayerUpdate] = field(default_factory=dict)
    classes: int | None = None
    update: str = "master"
    accumulate: bool = False
    scaling: str = "qas"
    gradients: str = "int16"
    optimizer: Optimizer = field(default_factory=Optimizer)
    loss: Loss = field(default_factory=Loss)

    def but(self, **changes: Any) -> Scheme:
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, with channels listed."""
        layers: dict[str, Any] = {}
        for name, layer in self.layers.items():
            entry: dict[str, Any] = {"bias": layer.bias}
            if layer.weights and layer.weights.axis == "all":
                entry["weights"] = "all"
            elif layer.weights:
                entry[f"{layer.weights.axis}_channels"] = list(layer.weights.channels)
            layers[name] = entry
        return {
            "layers": layers, "classes": self.classes, "update": self.update, "accumulate": self.accumulate,
            "scaling": self.scaling, "gradients": self.gradients, "optimizer": self.optimizer.as_dict(),
            "loss": self.loss.as_dict(),
        }  # fmt: skip


def trainable_layers(graph: Graph) -> list[Node]:
    """The layers with weights, in forward order; the classifier, always trained, is not among them."""
    layers = [node for node in graph.nodes if lookup(node.op).weight_axes is not None]
    return [node for node in layers if node.name != classifier_node(graph).name]


def classifier_node(graph: Graph) -> Node:
    """The last layer with weights; only views and a softmax may follow it."""
    for node in reversed(graph.nodes):
        if lookup(node.op).weight_axes is not None:
            if graph[node.outputs[0]].size != graph[node.outputs[0]].shape[-1]:
                break
            return node
        if node.op != "softmax" and not lookup(node.op).view:
            break
    raise SchemeError(
        f"'{graph.name}' does not end in a classifier",
        why="training needs a fully connected layer or a 1 x 1 convolution as the last layer with weights",
    )


def parse_scheme(document: Mapping[str, Any], graph: Graph) -> Scheme:
    """A Scheme from its JSON form; every name and channel is checked against the graph."""
    if not isinstance(document, Mapping) or not isinstance(document.get("layers", {}), Mapping):
        raise SchemeError("a scheme is an object, and so are its 'layers'", fix="see docs/architecture.md, 'Scheme'")
    unknown = set(document) - set(FIELDS)
    if unknown:
        raise SchemeError(f"a scheme has no field '{sorted(unknown)[0]}'", fix="see docs/architecture.md, 'Scheme'")
    by_name = {node.name: node for node in trainable_layers(graph)}
    layers = {}
    for name, entry in document.get("layers", {}).items():
        if name not in by_name:
            known = ", ".join(list(by_name)[:6])
            raise SchemeError(
                f"the scheme names a layer '{name}' that the model does not have", fix=f"layers: {known}, ..."
            )
        layers[name] = _parse_layer(graph, by_name[name], entry)
    fields = {name: value for name, value in document.items() if name != "layers"}
    scheme = Scheme(layers, **parse_fields(fields))
    _check_classes(scheme)
    return scheme


def parse_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a scheme other than its layers, from their JSON form. Errors: SchemeError."""
    fields = dict(document)
    choices: dict[str, tuple[str, ...]] = {"update": UPDATES, "scaling": SCALINGS, "gradients": GRADIENTS}
    for name, allowed in choices.items():
        if name in fields and fields[name] not in allowed:
            raise SchemeError(f"unknown {name} '{fields[name]}'", fix=f'"{name}": {" or ".join(allowed)}')
    parsers: dict[str, Callable[[Any], Any]] = {"optimizer": parse_optimizer, "loss": parse_loss, "accumulate": bool}
    fields |= {name: parse(fields[name]) for name, parse in parsers.items() if name in fields}
    if unknown := sorted(set(fields) - (set(FIELDS) - {"layers"})):
        raise SchemeError(f"a scheme has no field '{unknown[0]}'", fix="see docs/architecture.md, 'Scheme'")
    return fields


def _check_classes(scheme: Scheme) -> None:
    """SchemeError where the number of outputs does not fit the loss."""
    if scheme.classes is None:
        return
    if not isinstance(scheme.classes, int) or isinstance(scheme.classes, bool) or scheme.classes < 1:
        raise SchemeError(f"a classifier has at least 2 classes, the scheme says {scheme.classes}")
    scheme.loss.check(scheme.classes, "the scheme's classes")


def _parse_layer(graph: Graph, node: Node, entry: Mapping[str, Any]) -> LayerUpdate:
    where = f"layer '{node.name}'"
    known = ("weights", "input_channels", "output_channels")
    keys = [key for key in known if entry.get(key)] if isinstance(entry, Mapping) else [*known]
    if len(keys) > 1 or set(entry) - {"bias", "weights", "input_channels", "output_channels"}:
        raise SchemeError("a layer has 'bias' and one of 'weights', 'input_channels', 'output_channels'", where=where)
    if not keys:
        return LayerUpdate(bool(entry.get("bias", False)))
    if keys[0] == "weights":
        if entry["weights"] != "all":
            raise SchemeError(f"'weights' can only be \"all\", not {entry['weights']!r}", where=where)
        return LayerUpdate(bool(entry.get("bias", False)), Slice("all"))
    axis = keys[0].removesuffix("_channels")
    value, count = entry[keys[0]], channel_count(graph, node, axis)
    if isinstance(value, int | float) and 0 < value <= 1:
        return LayerUpdate(bool(entry.get("bias", False)), largest_channels(graph, node, axis, float(value)))
    listed = isinstance(value, list | tuple) and all(isinstance(channel, int) for channel in value)
    channels = tuple(sorted(set(value))) if listed else ()
    if not channels or channels[0] < 0 or channels[-1] >= count:
        raise SchemeError(f"channels {value!r} are not within 0..{count - 1}", where=where)
    return LayerUpdate(bool(entry.get("bias", False)), _whole_or(Slice(axis, channels), count))


def channel_count(graph: Graph, node: Node, axis: str) -> int:
    axes = lookup(node.op).weight_axes
    assert axes is not None
    return graph[node.inputs[2]].shape[axes[axis == "input"]]


def largest_channels(graph: Graph, node: Node, axis: str, share: float) -> Slice:
    """The share of channels with the largest L2 norm of the stored int8 weight ("magnitude+" of the paper's code)."""
    axes = lookup(node.op).weight_axes
    weight = graph[node.inputs[2]].data
    assert axes is not None and weight is not None
    along = axes[axis == "input"]
    other = tuple(i for i in range(weight.ndim) if i != along)
    norms = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=other))
    count = int(weight.shape[along] * share)
    if count == 0:
        raise SchemeError(f"a share of {share} of {weight.shape[along]} channels is none", where=f"layer '{node.name}'")
    chosen = np.argsort(-norms, kind="stable")[:count]
    return _whole_or(Slice(axis, tuple(sorted(int(c) for c in chosen))), weight.shape[along])


def _whole_or(chosen: Slice, count: int) -> Slice:
    return Slice("all") if len(chosen.channels) == count else chosen


def published_scheme(entry: Mapping[str, Any], graph: Graph) -> Scheme:
    """A scheme of "On-Device Training Under 256KB Memory", as its code states it.

    n_bias_update: the last n convolutions train their bias; manual_weight_idx: convolutions (stem = 0, classifier not
    counted) that train weights; weight_update_ratio: the share of their input channels, by largest norm, 0 = none.
    """
    layers = trainable_layers(graph)
    indices, ratios = entry.get("manual_weight_idx") or [], entry.get("weight_update_ratio") or []
    biases = int(entry.get("n_bias_update", 0))
    if len(indices) != len(ratios) or any(i not in range(len(layers)) for i in indices) or biases > len(layers):
        raise SchemeError(f"the scheme does not fit a model of {len(layers)} convolutions", why=f"indices {indices}")
    updates = {node.name: LayerUpdate(bias=True) for node in layers[len(layers) - biases :]}
    for index, ratio in zip(indices, ratios, strict=True):
        if ratio > 0:
            node = layers[index]
            chosen = largest_channels(graph, node, "input", ratio)
            updates[node.name] = replace(updates.get(node.name, LayerUpdate()), weights=chosen)
    order = [node.name for node in layers]
    return Scheme(dict(sorted(updates.items(), key=lambda item: order.index(item[0]))))


def load_scheme(path: Path | str, graph: Graph, key: str | None = None) -> Scheme:
    """A scheme file: ours, a plan.json, or the published collection with a key such as "mcunet-5fps/49kb"."""
    try:
        document = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise SchemeError(f"no scheme file '{path}'") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SchemeError(f"the scheme file '{path}' cannot be read", why=str(error)) from None
    if not isinstance(document, dict):
        raise SchemeError(f"'{path}' is not a scheme", why="the file holds no JSON object")
    if key is None:
        if "schemes" in document:
            keys = [f"{model}/{name}" for model, group in document["schemes"].items() for name in group]
            raise SchemeError(
                f"'{path}' holds several schemes", fix=f"--scheme-key {keys[0]} (or {', '.join(keys[1:4])}, ...)"
            )
        return parse_scheme(document.get("scheme", document), graph)
    entry: Any = document.get("schemes", document)
    for part in key.split("/"):
        if not isinstance(entry, dict) or part not in entry:
            known = ", ".join(entry) if isinstance(entry, dict) else ""
            raise SchemeError(f"'{path}' has no scheme '{key}'", why=f"'{part}' is not among: {known}")
        entry = entry[part]
    return published_scheme(entry, graph) if "n_bias_update" in entry else parse_scheme(entry, graph)


def _shares_a_parameter(graph: Graph, node: Node) -> bool:
    return any(name in other.inputs for name in node.inputs[1:] for other in graph.nodes if other is not node)


def all_weights(graph: Graph) -> Scheme:
    """Every weight and every bias, but for layers that share theirs with another: those cannot be trained."""
    layers = [node for node in trainable_layers(graph) if not _shares_a_parameter(graph, node)]
    return Scheme({node.name: LayerUpdate(True, Slice("all")) for node in layers})
