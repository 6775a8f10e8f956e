# SPDX-License-Identifier: Apache-2.0
"""Optimizers in a scheme: parsed, refused with a reason, and their states in the ledger to the byte."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests import nets
from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Phase, Role
from tinytrain.memory import lay_out
from tinytrain.program import Space, lower
from tinytrain.train import LayerUpdate, Optimizer, Scheme, Slice, all_weights, parse_scheme, training_graph
from tinytrain.train.optimizer import STATEFUL, parse_optimizer


def test_a_kind_alone_has_the_constants_of_its_paper() -> None:
    assert parse_optimizer("sgd") == Optimizer()
    assert parse_optimizer("adam") == Optimizer("adam", 0.9, 0.999)
    assert parse_optimizer({"kind": "lion", "beta2": 0.9}) == Optimizer("lion", 0.9, 0.9)
    made = parse_optimizer({"kind": "momentum", "weight_decay": 1e-4, "clip": 2, "stateful": 0.5})
    assert made == Optimizer("momentum", 0.9, 0.0, 1e-4, 2, 0.5)
    assert parse_optimizer(json.loads(json.dumps(made.as_dict()))) == made


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("rmsprop", "no optimizer 'rmsprop'"), ({"kind": "adam", "eps": 1e-8}, "no field 'eps'"),
        ({"kind": "adam", "beta1": 1.0}, "beta1 is 1.0"), ({"kind": "sgd", "weight_decay": -1}, "weight_decay is -1"),
        ({"kind": "sgd", "clip": 0}, "clip is 0"), ({"kind": "sgd", "clip": float("nan")}, "clip is nan"),
        ({"kind": "adam", "stateful": 0}, "stateful is 0"), ({"kind": "sign", "stateful": 0.5}, "no state to share"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(entry: Any, message: str, chain: Graph) -> None:
    with pytest.raises(SchemeError, match=message):
        parse_scheme({"optimizer": entry}, chain)


def optimizer_bytes(graph: Graph) -> int:
    return lower(graph, lay_out(graph)).sizes[Space.OPTIMIZER]


def trained(graph: Graph, rule: str | None = None) -> dict[str, int]:
    return {
        name: tensor.size
        for name, tensor in graph.tensors.items()
        if tensor.role is Role.PARAMETER and tensor.alias_of is None and rule in (None, tensor.rule)
    }


# per element, and per tensor
BYTES = {"sgd": (0, 0), "momentum": (2, 4), "sign": (0, 0), "lion": (1, 4), "adam": (2, 16)}


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_states_are_in_the_ledger_to_the_byte(kind: str, accumulate: bool, residual: Graph) -> None:
    scheme = all_weights(residual).but(accumulate=accumulate)
    plain = training_graph(residual, scheme)
    graph = training_graph(residual, scheme.but(optimizer=parse_optimizer(kind)))
    each, whole = BYTES[kind]
    words = {name: size + (-size) % 4 for name, size in trained(graph).items()}  # tensors begin at words
    sizes = [
        each * words[name] if kind != "momentum" else 2 * (size + size % 2) for name, size in trained(graph).items()
    ]
    want = sum(sizes) + whole * len(words)
    assert abs(optimizer_bytes(graph) - optimizer_bytes(plain) - want) < 8
    clipped = training_graph(residual, scheme.but(optimizer=Optimizer(clip=2.0)))
    assert abs(optimizer_bytes(clipped) - optimizer_bytes(plain) - 12 * len(words)) < 8


def test_a_gradient_of_one_sample_is_in_the_arena_for_two_rows_only(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual).but(optimizer=Optimizer("adam", 0.9, 0.999)))
    buffers = [name for name, tensor in graph.tensors.items() if tensor.dtype == "int32" and name.endswith(".gradient")]
    assert len(buffers) == len(trained(graph))
    for name in buffers:
        assert graph[name].role is Role.GRADIENT
        (reader,) = graph.consumers()[name]
        assert reader.op == "adam_update" and reader.phase is Phase.UPDATE
        assert graph.nodes.index(reader) == graph.nodes.index(graph.producers()[name]) + 1


def test_a_firmware_links_only_the_rules_it_uses(residual: Graph) -> None:
    for kind in BYTES:
        graph = training_graph(residual, Scheme(optimizer=parse_optimizer(kind)))
        kernels = {row.kernel for row in lower(graph, lay_out(graph)).rows}
        rules = {kernel for kernel in kernels if any(f"tt_{other}_update" in kernel for other in BYTES)}
        assert len(rules) == (0 if kind == "sgd" else 1) and all(kind in kernel for kernel in rules)


@pytest.mark.parametrize("kind", STATEFUL)
def test_the_largest_channels_keep_states_and_the_rest_goes_by_sign(kind: str, chain: Graph) -> None:
    scheme = Scheme(
        {"stem": LayerUpdate(True, Slice("all")), "middle": LayerUpdate(False, Slice("input", (1, 2, 5, 7)))},
        optimizer=Optimizer(kind, 0.9, 0.99, stateful=0.5),
    )
    graph = training_graph(chain, scheme)
    whole = training_graph(chain, scheme.but(optimizer=Optimizer(kind, 0.9, 0.99)))
    assert sum(trained(graph).values()) == sum(trained(whole).values())
    signs = trained(graph, "sign")
    assert sum(size for name, size in signs.items() if name.startswith("middle")) == 2 * 6  # 2 channels, 6 outputs
    # of the stem's three input channels two are stateful
    assert sum(size for name, size in signs.items() if name.startswith("stem")) == 8 * 9
    assert not any(name.startswith("head") or name.endswith(".b") for name in signs)
    weight = chain["middle.w"].data.astype(float)
    norms = np.linalg.norm(weight.reshape(6, 8), axis=0)
    largest = sorted((1, 2, 5, 7), key=lambda channel: -norms[channel])[:2]
    (name,) = [name for name in trained(graph, kind) if name.startswith("middle.w")]
    order = graph.attrs["channel_orders"]["middle.w", 3]
    start, end = (int(edge) for edge in name[name.index("[") + 1 : -1].split(":"))
    assert set(order[start:end].tolist()) == set(largest), "contiguous, one block"
    assert optimizer_bytes(graph) < optimizer_bytes(whole)


def test_random_nets_with_shares_of_states_stay_valid() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        forward = nets.random_net(rng)
        scheme = nets.random_scheme(rng, forward).but(optimizer=Optimizer("lion", 0.9, 0.99, stateful=0.3))
        graph = training_graph(forward, scheme)
        assert sum(trained(graph).values()) == sum(
            trained(training_graph(forward, scheme.but(optimizer=Optimizer()))).values()
        )
