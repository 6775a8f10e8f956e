# SPDX-License-Identifier: Apache-2.0
"""The training graph holds what the scheme needs and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tests import nets
from tests.golden import assert_golden
from tinytrain.errors import GraphError
from tinytrain.graph import Graph, Node, Phase, Role, to_text
from tinytrain.memory import lay_out
from tinytrain.ops import lookup
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, trainable_layers, training_graph

SLICES = {"middle": LayerUpdate(True, Slice("input", (1, 4, 6))), "last": LayerUpdate(False, Slice("output", (0, 3)))}
GOLDEN = {
    "head": Scheme(),
    "bias": Scheme({"last": LayerUpdate(True)}, update="stochastic"),
    "slices": Scheme(SLICES, classes=3),
    "int8": Scheme({"last": LayerUpdate(True)}, gradients="int8"),
    "batches": Scheme({"middle": LayerUpdate(True)}, accumulate=True, scaling="none"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_training_graph_reads_as_golden_text(name: str, chain: Graph) -> None:
    assert_golden(__file__, f"{name}.txt", to_text(training_graph(chain, GOLDEN[name])))


def kept(graph: Graph) -> dict[str, int]:
    """Bytes that live from the forward part into the backward part, by piece: what training keeps."""
    loss = next(index for index, node in enumerate(graph.nodes) if node.phase is Phase.LOSS)
    return {piece.name: piece.nbytes for piece in lay_out(graph).pieces if piece.first < loss < piece.last}


def test_the_head_alone_keeps_its_features_and_has_no_backward_part(residual: Graph) -> None:
    graph = training_graph(residual, Scheme())
    assert {node.phase for node in graph.nodes} == {Phase.FORWARD, Phase.LOSS, Phase.UPDATE}
    assert kept(graph) == {"pool.y": 10, "logits": 16}


def test_a_bias_only_layer_keeps_one_bit_per_element_and_no_input(residual: Graph) -> None:
    """Everything from the trained bias to the head is there as masks."""
    graph = training_graph(residual, Scheme({"block1.depthwise": LayerUpdate(bias=True)}))
    held = kept(graph)
    assert held.pop("pool.y") == 10 and held.pop("logits") == 16
    shapes = {"block1.depthwise": 4 * 4 * 12, "block1.project": 4 * 4 * 6, "block1.add": 4 * 4 * 6, "last": 4 * 4 * 10}
    for name, elements in shapes.items():
        assert held.pop(f"{name}.y.mask") == elements // 8
    assert held.pop("pool.y.mask", 2) == 2
    assert not held, f"also kept: {held}"


def test_a_sliced_layer_keeps_only_its_channels(residual: Graph) -> None:
    chosen = Slice("input", (0, 2, 5, 7))
    held = kept(training_graph(residual, Scheme({"block1.project": LayerUpdate(weights=chosen)})))
    sizes = {
        name: size for name, size in held.items() if not name.endswith("mask") and name not in ("logits", "pool.y")
    }
    assert list(sizes.values()) == [4 * 4 * 4], sizes
    whole = kept(training_graph(residual, Scheme({"block1.project": LayerUpdate(weights=Slice("all"))})))
    assert whole["block1.depthwise.y"] == 4 * 4 * 12


def test_a_slice_of_a_depthwise_layer_keeps_only_its_channels(residual: Graph) -> None:
    held = kept(training_graph(residual, Scheme({"block1.depthwise": LayerUpdate(weights=Slice("input", (1, 2, 3)))})))
    assert [size for name, size in held.items() if name.startswith("block1.expand")] == [4 * 4 * 3]


@pytest.mark.parametrize("first", ["block0.expand", "block0.project", "block1.depthwise", "last"])
def test_nothing_exists_upstream_of_the_first_trained_layer(residual: Graph, first: str) -> None:
    graph = training_graph(residual, Scheme({first: LayerUpdate(True, Slice("all"))}))
    order = [node.name for node in residual.nodes]
    upstream = set(order[: order.index(first)])
    extra = [node for node in graph.nodes if node.phase is not Phase.FORWARD]
    assert not [node.name for node in extra if node.origin in upstream]
    assert not [node.name for node in extra if node.origin == first and "input_gradient" in node.op]
    stem = [node for node in extra if "x" in node.inputs]
    assert not stem, "the input image is not needed for training"


def test_a_branch_without_trained_layers_gets_no_gradient(residual: Graph) -> None:
    """Training block1.project alone: the stream before its add leads to no trained layer."""
    graph = training_graph(residual, Scheme({"block1.project": LayerUpdate(bias=True)}))
    assert not [node for node in graph.nodes if node.op == "gradient_add"]
    assert not [node for node in graph.nodes if node.phase is Phase.BACKWARD and node.origin.startswith("block0")]


def test_the_gradient_of_a_residual_add_flows_through_both_branches(residual: Graph) -> None:
    graph = training_graph(residual, Scheme({"stem": LayerUpdate(bias=True)}))
    sums = [node for node in graph.nodes if node.op == "gradient_add"]
    assert [node.origin for node in sums] == ["block0.add", "stem"]
    producers = graph.producers()
    for node in sums:
        origins = {producers[name].origin for name in node.inputs}
        assert len(origins) == 2, origins
        assert any("add" in origin or origin == "last" for origin in origins), "one part comes straight through the add"


def test_an_operand_used_twice_gets_its_gradient_twice() -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((2, 2, 3)), 4)
    graph = training_graph(
        net.done(net.dense("head", net.reshape("f", net.add("a", y, y)), 2)), Scheme({"c": LayerUpdate(True)})
    )
    (total,) = [node for node in graph.nodes if node.op == "gradient_add"]
    assert total.inputs[0] == total.inputs[1]


def random_cases() -> list[tuple[Graph, Scheme, Graph]]:
    cases = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        forward = nets.random_net(rng)
        scheme = nets.random_scheme(rng, forward)
        cases.append((forward, scheme, training_graph(forward, scheme)))
    return cases


def test_the_update_follows_the_input_gradient_that_reads_the_old_weight() -> None:
    found = 0
    for _, _, graph in random_cases():
        place = {node.name: index for index, node in enumerate(graph.nodes)}
        for update in (node for node in graph.nodes if node.phase is Phase.UPDATE):
            parameter = update.attrs["parameter"]
            for reader in graph.consumers()[parameter]:
                if reader is not update and reader.phase is Phase.BACKWARD:
                    assert place[reader.name] < place[update.name]
                    found += 1
    assert found > 20


def test_a_parameter_is_updated_the_moment_its_gradient_is_there() -> None:
    """No gradient waits for the end of the step: the update of a layer comes before the gradients of earlier layers."""
    for forward, _, graph in random_cases():
        order = {node.name: index for index, node in enumerate(forward.nodes)}
        last = len(order)
        for node in graph.nodes:
            if node.phase in (Phase.BACKWARD, Phase.UPDATE):
                assert order[node.origin] <= last, node.name
                last = order[node.origin]


def test_every_parameter_of_the_scheme_is_updated_once_and_nothing_else() -> None:
    for forward, scheme, graph in random_cases():
        updated = [node.attrs["parameter"] for node in graph.nodes if node.phase is Phase.UPDATE]
        parameters = [t.name for t in graph.tensors.values() if t.role is Role.PARAMETER and t.alias_of is None]
        assert sorted(updated) == sorted(parameters)
        applied = [node.attrs["parameter"] for node in graph.nodes if node.phase is Phase.APPLY]
        assert sorted(applied) == (sorted(parameters) if scheme.accumulate else [])
        trained = {node.origin for node in graph.nodes if node.phase is Phase.UPDATE}
        assert trained == set(scheme.layers) | {forward.nodes[-1].name}


def test_every_node_in_a_training_graph_matters() -> None:
    for _, _, graph in random_cases():
        readers = graph.consumers()
        for node in graph.nodes:
            for name in node.outputs:
                tensor = graph[name]
                assert readers[name] or name in graph.outputs or tensor.role.persistent, f"nobody needs {name}"


def test_inference_needs_no_more_nodes_than_the_forward_graph() -> None:
    for forward, _, graph in random_cases():
        forward_nodes = [node.name for node in graph.nodes if node.phase is Phase.FORWARD]
        assert forward_nodes == [node.name for node in forward.nodes]
        written = set(graph.inputs) | {
            t.name for t in graph.tensors.values() if t.role is Role.CONSTANT or t.role.persistent
        }
        for node in graph.nodes:
            if node.phase is Phase.FORWARD:
                assert set(node.inputs) <= written, "an inference reads what only training writes"
                written |= set(node.outputs)


def test_masters_and_accumulators_exist_as_the_scheme_says(residual: Graph) -> None:
    def roles(**options: object) -> set[Role]:
        graph = training_graph(residual, all_weights(residual).but(**options))
        return {
            tensor.role for name, tensor in graph.tensors.items() if tensor.alias_of is None and ".exponent" not in name
        }

    assert Role.MASTER in roles() and Role.OPTIMIZER not in roles()
    assert Role.MASTER not in roles(update="stochastic")
    assert Role.OPTIMIZER in roles(accumulate=True)


def test_gradient_exponents_start_where_they_were_measured(residual: Graph) -> None:
    scheme = Scheme({"last": LayerUpdate(True), "block1.project": LayerUpdate(True)})
    start = {"last.gx": (-31, 2**30 + 5, -50)}
    graph = training_graph(residual, scheme, start)
    assert graph["last.gx.exponent"].data.tolist() == [-31, 2**30 + 5, -50]
    assert graph["head.gx.exponent"].data.tolist() == [-24, 0, 0]


def test_a_layer_before_an_operator_without_gradient_is_refused_by_name() -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((1, 1, 3)), 4)
    y = net._node("softmax", "middle", (net.reshape("f", y),), {"beta": 1.0}, 1 / 256, -128)
    forward = net.done(net.dense("head", y, 3))
    training_graph(forward, Scheme())
    with pytest.raises(GraphError, match=r"'middle' \(softmax\) has no gradient") as caught:
        training_graph(forward, Scheme({"c": LayerUpdate(True)}))
    assert "after it" in caught.value.fix


def test_the_forward_graph_is_left_as_it_was(residual: Graph) -> None:
    before = to_text(residual), {name: t.data.copy() for name, t in residual.tensors.items() if t.data is not None}
    training_graph(residual, all_weights(residual).but(classes=7))
    assert to_text(residual) == before[0]
    for name, data in before[1].items():
        np.testing.assert_array_equal(residual[name].data, data)


def test_every_operator_with_weights_can_train_them() -> None:
    """Whatever trainable_layers offers, a scheme may name."""
    for seed in range(10):
        forward = nets.random_net(np.random.default_rng(seed))
        for node in trainable_layers(forward):
            assert isinstance(node, Node) and lookup(node.op).weight_axes
            training_graph(forward, Scheme({node.name: LayerUpdate(True, Slice("all"))}))
