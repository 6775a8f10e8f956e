# SPDX-License-Identifier: Apache-2.0
"""Schemes: parsed, checked against the model, refused with a reason, and the published ones as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import nets
from tinytrain.errors import SchemeError
from tinytrain.graph import Graph
from tinytrain.train import (
    LayerUpdate,
    Scheme,
    Slice,
    all_weights,
    classifier_node,
    load_scheme,
    parse_scheme,
    published_scheme,
    trainable_layers,
    training_graph,
)


def test_every_form_of_a_layer_is_understood(chain: Graph) -> None:
    document = {
        "layers": {
            "stem": {"bias": True, "weights": "all"},
            "middle": {"input_channels": [6, 1, 1]},
            "last": {"bias": True, "output_channels": 0.5},
        },
        "classes": 3, "update": "stochastic", "accumulate": True, "scaling": "none",
    }  # fmt: skip
    scheme = parse_scheme(document, chain)
    assert scheme.layers["stem"] == LayerUpdate(True, Slice("all"))
    assert scheme.layers["middle"] == LayerUpdate(False, Slice("input", (1, 6)))
    assert scheme.layers["last"].weights.axis == "output" and len(scheme.layers["last"].weights.channels) == 2
    assert (scheme.classes, scheme.update, scheme.accumulate, scheme.scaling) == (3, "stochastic", True, "none")


def test_the_least_scheme_is_an_empty_object(chain: Graph) -> None:
    assert parse_scheme({}, chain) == Scheme()


def test_a_scheme_and_its_json_are_the_same() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        graph = nets.random_net(rng)
        scheme = nets.random_scheme(rng, graph)
        assert parse_scheme(json.loads(json.dumps(scheme.as_dict())), graph) == scheme


def test_a_share_takes_the_channels_of_largest_norm(chain: Graph) -> None:
    weight = chain["middle.w"].data.astype(float)
    norms = np.linalg.norm(weight.reshape(6, 8), axis=0)
    chosen = parse_scheme({"layers": {"middle": {"input_channels": 0.4}}}, chain).layers["middle"].weights.channels
    assert set(chosen) == set(np.argsort(-norms)[:3].tolist())  # int(8 * 0.4)
    norms = np.linalg.norm(weight.reshape(6, 8), axis=1)
    chosen = parse_scheme({"layers": {"middle": {"output_channels": 0.5}}}, chain).layers["middle"].weights.channels
    assert set(chosen) == set(np.argsort(-norms)[:3].tolist())


def test_all_channels_are_the_whole_weight(chain: Graph) -> None:
    for entry in ({"input_channels": 1.0}, {"input_channels": list(range(8))}, {"output_channels": 1}):
        assert parse_scheme({"layers": {"middle": entry}}, chain).layers["middle"].weights == Slice("all")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "field": ({"epochs": 3}, "has no field 'epochs'"),
    "layer": ({"layers": {"nowhere": {}}}, "'nowhere' that the model does not have"),
    "classifier": ({"layers": {"head": {"bias": True}}}, "'head' that the model does not have"),
    "layer without weights": ({"layers": {"pool": {"bias": True}}}, "'pool' that the model does not have"),
    "key": ({"layers": {"stem": {"biases": True}}}, "a layer has 'bias' and one of"),
    "two slices": (
        {"layers": {"stem": {"input_channels": [0], "output_channels": [0]}}},
        "a layer has 'bias' and one of",
    ),
    "weights": ({"layers": {"stem": {"weights": "some"}}}, 'can only be "all"'),
    "channel too large": ({"layers": {"middle": {"input_channels": [0, 8]}}}, r"not within 0\.\.7"),
    "channel negative": ({"layers": {"middle": {"input_channels": [-1]}}}, r"not within 0\.\.7"),
    "share too large": ({"layers": {"middle": {"input_channels": 1.5}}}, r"not within 0\.\.7"),
    "share of nothing": ({"layers": {"middle": {"input_channels": 0.1}}}, "a share of 0.1 of 8 channels is none"),
    "channels of no kind": ({"layers": {"middle": {"input_channels": "most"}}}, "not within"),
    "update": ({"update": "adam"}, "unknown update 'adam'"),
    "scaling": ({"scaling": "some"}, "scaling 'some'"),
    "one class": ({"classes": 1}, "at least 2 classes"),
    "classes of no kind": ({"classes": "many"}, "at least 2 classes"),
    "layers of no kind": ({"layers": ["stem"]}, "layers"),
    "layer of no kind": ({"layers": {"stem": True}}, "stem"),
    "channels that are not numbers": ({"layers": {"middle": {"input_channels": ["a"]}}}, "middle|not within"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scheme_that_does_not_fit_is_refused(case: str, chain: Graph) -> None:
    document, message = REFUSED[case]
    with pytest.raises(SchemeError) as caught:
        parse_scheme(document, chain)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_files_are_read_and_refused_by_what_is_wrong(chain: Graph, tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    with pytest.raises(SchemeError, match="no scheme file"):
        load_scheme(path, chain)
    for content, message in ((b"{", "cannot be read"), (b"\xff\xfe{}", "cannot be read"), (b"[1]", "is not a scheme")):
        path.write_bytes(content)
        with pytest.raises(SchemeError, match=message):
            load_scheme(path, chain)
    with pytest.raises(SchemeError, match="cannot be read"):
        load_scheme(tmp_path, chain)
    path.write_text(json.dumps({"layers": {"last": {"bias": True}}}))
    assert load_scheme(path, chain).layers == {"last": LayerUpdate(True)}
    path.write_text(json.dumps({"format": 1, "scheme": {"layers": {"last": {"bias": True}}}}))  # a plan.json
    assert load_scheme(path, chain).layers == {"last": LayerUpdate(True)}


PUBLISHED = {
    "n_bias_update": 2,
    "manual_weight_idx": [0, 2],
    "weight_update_ratio": [0.5, 0],
    "weight_select_criteria": "magnitude+",
}


def test_a_published_entry_means_what_its_code_does(chain: Graph) -> None:
    """Layers are counted without the classifier, the stem is 0; a ratio of 0 trains no weight; int(3 * 0.5) is 1."""
    scheme = published_scheme(PUBLISHED, chain)
    assert list(scheme.layers) == ["stem", "middle", "last"]
    assert scheme.layers["stem"].bias is False and len(scheme.layers["stem"].weights.channels) == 1
    assert scheme.layers["middle"] == scheme.layers["last"] == LayerUpdate(True)


@pytest.mark.parametrize(
    "change",
    [
        {"manual_weight_idx": [0]},
        {"manual_weight_idx": [0, 3]},
        {"manual_weight_idx": [0, -1]},
        {"manual_weight_idx": ["0", 1]},
        {"n_bias_update": 4},
    ],
)
def test_a_published_entry_for_another_model_is_refused(chain: Graph, change: dict[str, Any]) -> None:
    with pytest.raises(SchemeError, match="does not fit a model of 3 convolutions"):
        published_scheme({**PUBLISHED, **change}, chain)


def test_a_collection_is_opened_by_its_key(chain: Graph, tmp_path: Path) -> None:
    path = tmp_path / "schemes.json"
    path.write_text(json.dumps({"schemes": {"small": {"1kb": PUBLISHED}, "other": {"2kb": {"layers": {}}}}}))
    assert load_scheme(path, chain, "small/1kb") == published_scheme(PUBLISHED, chain)
    assert load_scheme(path, chain, "other/2kb") == Scheme()
    with pytest.raises(SchemeError, match="holds several schemes") as caught:
        load_scheme(path, chain)
    assert "--scheme-key small/1kb" in caught.value.fix
    for key, part in (("small/9kb", "9kb"), ("none/1kb", "none"), ("small/1kb/more/x", "more")):
        with pytest.raises(SchemeError, match="has no scheme") as caught:
            load_scheme(path, chain, key)
        assert f"'{part}' is not among" in caught.value.why


@pytest.mark.shared
@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35"])
def test_the_published_collection_loads_as_it_stands(shared: Path, model: str) -> None:
    from tinytrain.frontends import load_model

    folder = shared / "data" / "models" / "mcu_models"
    graph = load_model(folder / f"{model}.onnx")
    layers = trainable_layers(graph)
    collection = json.loads((folder / "sparse_update_schemes.json").read_text())["schemes"][model]
    assert len(collection) == 5
    for key, entry in collection.items():
        scheme = load_scheme(folder / "sparse_update_schemes.json", graph, f"{model}/{key}")
        assert sum(update.bias for update in scheme.layers.values()) == entry["n_bias_update"]
        for index, ratio in zip(entry["manual_weight_idx"], entry["weight_update_ratio"], strict=True):
            node, update = layers[index], scheme.layers.get(layers[index].name, LayerUpdate())
            weight = graph[node.inputs[2]].data
            axis = 3 if node.op == "conv2d" else 2
            norms = np.sqrt((weight.astype(float) ** 2).sum(axis=tuple(i for i in range(weight.ndim) if i != axis)))
            count = int(weight.shape[axis] * ratio)
            if count == 0:
                assert update.weights is None
            elif count == weight.shape[axis]:
                assert update.weights == Slice("all")
            else:
                chosen = list(update.weights.channels)
                assert len(chosen) == count
                rest = np.delete(norms, chosen)
                assert norms[chosen].min() >= rest.max(), f"{model}/{key} {node.name}: not the largest norms"


# --- what a model must be like ---


def test_the_classifier_is_the_last_layer_with_weights(residual: Graph) -> None:
    assert classifier_node(residual).name == "head"
    assert "head" not in [node.name for node in trainable_layers(residual)]
    assert list(all_weights(residual).layers) == [node.name for node in trainable_layers(residual)]


def test_views_and_a_softmax_may_follow_the_classifier() -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("head", net.mean("m", net.conv("c", net.input((4, 4, 3)), 4), keepdims=True), 3)
    y = net._node("softmax", "s", (net.reshape("r", y),), {"beta": 1.0}, 1 / 256, -128)
    graph = net.done(y)
    assert classifier_node(graph).name == "head"
    assert [node.name for node in training_graph(graph, Scheme()).nodes][:3] == ["c", "m", "head"]


def test_a_model_without_classifier_is_refused() -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((4, 4, 3)), 4)
    graph = net.done(y)  # an image comes out
    with pytest.raises(SchemeError, match="does not end in a classifier"):
        classifier_node(graph)
    net = nets.Net(np.random.default_rng(0))
    with pytest.raises(SchemeError, match="does not end in a classifier"):
        classifier_node(net.done(net.mean("m", net.conv("c", net.input((4, 4, 3)), 4))))


def shared_weights(what: str) -> Graph:
    """Layers b and c have one weight, or one bias."""
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("a", net.input((4, 4, 3)), 6)
    y = net.conv("c", net.conv("b", y, 6), 6)
    graph = net.graph
    x, bias, weight = graph.node("c").inputs
    inputs = (x, bias, "b.w") if what == "weight" else (x, "b.b", weight)
    graph.nodes[2] = graph.node("c").but(inputs=inputs)
    graph.drop_unused_tensors()
    return net.done(net.dense("head", net.mean("m", y), 3))


@pytest.mark.parametrize("what", ["weight", "bias"])
@pytest.mark.parametrize("layer", ["b", "c"])
def test_a_parameter_of_two_layers_cannot_be_trained(what: str, layer: str) -> None:
    graph = shared_weights(what)
    updates = (
        [LayerUpdate(weights=Slice("all")), LayerUpdate(weights=Slice("input", (1, 2)))]
        if what == "weight"
        else [LayerUpdate(True)]
    )
    other = "c" if layer == "b" else "b"
    for update in updates:
        with pytest.raises(SchemeError, match=f"'{layer}' cannot be trained: its {what} is shared with '{other}'"):
            training_graph(graph, Scheme({layer: update}))
    training_graph(graph, Scheme({"a": LayerUpdate(True, Slice("all"))}))


def test_all_weights_leaves_out_layers_that_share_a_parameter() -> None:
    scheme = all_weights(shared_weights("weight"))
    assert list(scheme.layers) == ["a"]
    training_graph(shared_weights("weight"), scheme)
