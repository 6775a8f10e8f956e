# SPDX-License-Identifier: Apache-2.0
"""Losses in whole training graphs: what they need of a model, what they keep alive, and that they are learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.training import Pair, machine_of, measured_gradients
from tinytrain.errors import SchemeError
from tinytrain.frontends import load_model
from tinytrain.graph import Graph, Phase, Role
from tinytrain.memory import lay_out, lifetimes
from tinytrain.train import Loss, Scheme, all_weights, training_graph
from tinytrain.train.loss import parse_loss

GIVEN = Loss("mean_squared_error", target="given")
RECONSTRUCT = Loss("mean_squared_error")
BINARY = Loss("binary_cross_entropy")


def auto_encoder(seed: int = 0, size: int = 24, scale: float = nets.SCALE) -> Graph:
    net = nets.Net(np.random.default_rng(seed), "auto-encoder")
    y = net.dense("encode", net.input((size,), scale), 8, relu=True)
    return net.done(net.dense("decode", net.dense("middle", y, 12, relu=True), size))


REFUSED = {
    "a softmax of one": (Scheme(classes=1), "at least 2 classes, here it is 1"),
    "a sigmoid of four": (Scheme(loss=BINARY), "a binary loss has one output, here it is 4"),
    "weights of other classes": (Scheme(loss=Loss(class_weights=(1.0, 2.0))), "2 class_weights for 4 classes"),
    "weights of two classes": (
        Scheme(classes=1, loss=Loss("binary_cross_entropy", 0.0, (1.0,))),
        "1 class_weights for 2",
    ),
    "outputs unlike the sample": (Scheme(loss=RECONSTRUCT), "there are 4, a sample has 108 values"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_have_a_loss_is_refused(case: str, chain: Graph) -> None:
    scheme, message = REFUSED[case]
    with pytest.raises(SchemeError, match=message):
        training_graph(chain, scheme)


@pytest.mark.parametrize("weights", [[0.0001, 1], [1, 2000], [-1, 1], ["1", 2], 3])
def test_class_weights_that_one_exponent_cannot_hold_are_refused(weights: object) -> None:
    with pytest.raises(SchemeError, match=r"class_weights are .*"):
        parse_loss({"kind": "cross_entropy", "class_weights": weights})


def test_options_that_change_nothing_leave_the_graph_as_it_was(chain: Graph) -> None:
    node = next(node for node in training_graph(chain, Scheme(loss=Loss())).nodes if node.phase is Phase.LOSS)
    assert node.attrs == {} and node.op == "softmax_cross_entropy"


def test_state_is_what_the_loss_needs(chain: Graph) -> None:
    for scheme, has in ((Scheme(), "label"), (Scheme(classes=1, loss=BINARY), "label"), (Scheme(loss=GIVEN), "target")):
        graph = training_graph(chain, scheme)
        state = {name for name, tensor in graph.tensors.items() if tensor.role is Role.STATE and not tensor.alias_of}
        assert state == {has, "hyper", "result"}
    graph = training_graph(auto_encoder(), Scheme(loss=RECONSTRUCT))
    assert not {"label", "target"} & set(graph.tensors)


def test_the_sample_stays_alive_until_it_is_compared() -> None:
    graph = training_graph(auto_encoder(), Scheme(loss=RECONSTRUCT))
    index = next(i for i, node in enumerate(graph.nodes) if node.phase is Phase.LOSS)
    pieces = {piece.name: piece for piece in lifetimes(graph)[0]}
    assert (pieces["x"].first, pieces["x"].last) == (0, index)
    offsets = lay_out(graph).offsets
    others = [p for p in pieces.values() if p.name != "x" and p.first <= index]
    for other in others:
        apart = offsets[other.name] >= offsets["x"] + 24 or offsets[other.name] + other.nbytes <= offsets["x"]
        assert apart, f"{other.name} overwrites the sample before the loss has read it"


def test_a_new_binary_head_starts_undecided(chain: Graph, rng: np.random.Generator) -> None:
    machine = machine_of(training_graph(chain, Scheme(classes=1, loss=BINARY)))
    for label in (0, 1):
        loss, predicted = machine.train_step(nets.random_sample(rng, chain), label)
        assert abs(loss - np.log(2)) < 1e-4 and predicted == 0
    assert machine.program.labels == 2 and machine.infer(nets.random_sample(rng, chain)).tolist() == [0]


def test_an_auto_encoder_keeps_its_own_head() -> None:
    forward = auto_encoder()
    graph = training_graph(forward, Scheme(loss=RECONSTRUCT))
    np.testing.assert_array_equal(graph["decode.head.weight"].data, forward["decode.w"].data.astype(np.int16) * 256)


@pytest.mark.parametrize("loss", [GIVEN, RECONSTRUCT, BINARY, Loss("cross_entropy", 0.2, (0.5, 2.0, 1.0, 0.01))])
def test_every_parameters_gradient_is_the_losss(loss: Loss, rng: np.random.Generator) -> None:
    """The head's, by differences of the integer loss; the targets of a given loss are zeros."""
    forward = auto_encoder(size=9) if loss == RECONSTRUCT else nets.residual()
    classes = 1 if loss == BINARY else None
    graph = training_graph(forward, Scheme(accumulate=True, classes=classes, loss=loss))
    sample = nets.random_sample(rng, forward)
    target = np.zeros(4) if loss == GIVEN else None
    machine = machine_of(graph)

    def value() -> float:
        machine.set_input(sample)
        if "label" in graph.tensors:
            machine.view("label")[0] = 1
        machine.run([Phase.FORWARD, Phase.LOSS])
        return float(machine.view("result")[0]) / 65536

    checked = 0
    for name, gradient in measured_gradients(graph, sample, 1, target=target).items():
        tensor = graph[name]
        scales = np.broadcast_to(tensor.quantization.scale.reshape(-1, *[1] * (len(tensor.shape) - 1)), tensor.shape)
        for index in np.ndindex(tensor.shape):
            view, step = machine.view(name), max(1, round(0.02 / scales[index]))
            if tensor.dtype == "int16" and abs(int(view[index])) + step > 32767:
                continue
            sides = []
            for sign in (1, -1):
                view[index] += sign * step
                sides.append(value())
                view[index] -= sign * step
            difference = (sides[0] - sides[1]) / (2 * step * scales[index])
            slack = 6 * 2.0**-16 / (step * scales[index]) + 0.02 * abs(gradient[index])
            assert abs(difference - gradient[index]) < slack, (name, index)
            checked += 1
    assert checked >= 10


def test_a_class_weight_is_as_good_as_a_learning_rate(chain: Graph, rng: np.random.Generator) -> None:
    """Twice the weight of every class moves the head as twice the rate does, to the bit: both are powers of two."""
    samples = [nets.random_sample(rng, chain) for _ in range(6)]
    results = []
    for weight, rate in ((2.0, 0.01), (1.0, 0.02)):
        machine = machine_of(training_graph(chain, Scheme(loss=Loss(class_weights=(weight,) * 4))), rate)
        losses = [machine.train_step(sample, step % 4)[0] / weight for step, sample in enumerate(samples)]
        results.append((machine.parameters_crc32(), losses))
    assert results[0] == results[1]


def test_a_binary_head_learns_what_is_bright(rng: np.random.Generator) -> None:
    forward = nets.chain()
    machine = machine_of(training_graph(forward, all_weights(forward).but(classes=1, loss=BINARY)), 0.02)

    def sample(label: int) -> np.ndarray:
        return np.clip(rng.normal(50 if label else -50, 40, (6, 6, 3)), -128, 127).astype(np.int8)

    for step in range(200):
        machine.train_step(sample(step % 2), step % 2)
    right = [machine.predict(sample(step % 2)) == step % 2 for step in range(60)]
    assert np.mean(right) > 0.95


def test_given_targets_are_learned_and_host_equals_oracle(rng: np.random.Generator) -> None:
    """A linear function of the features, by the head alone; squared error falls to what rounding leaves."""
    forward = nets.chain()
    teacher = machine_of(training_graph(forward, Scheme()))
    pair = Pair(training_graph(forward, Scheme(classes=4, loss=GIVEN)), 0.5)
    losses = []
    for _ in range(300):
        sample = nets.random_sample(rng, forward)
        target = teacher.infer(sample) / 65536
        losses.append(pair.step(sample, 0, target)[0])
    assert np.mean(losses[-30:]) < 0.05 * np.mean(losses[:10])


def test_an_auto_encoder_learns_to_reconstruct(rng: np.random.Generator) -> None:
    forward = auto_encoder()
    machine = machine_of(training_graph(forward, all_weights(forward).but(loss=RECONSTRUCT)), 0.05)
    basis = rng.normal(0, 40, (3, 24))

    def step() -> float:
        return machine.train_step(np.clip(rng.normal(0, 1, 3) @ basis, -128, 127).astype(np.int8))[0]

    first = np.mean([step() for _ in range(30)])
    for _ in range(600):
        step()
    assert np.mean([step() for _ in range(30)]) < 0.35 * first


@pytest.mark.shared
def test_the_machine_sound_auto_encoder_adapts_to_a_machine(shared: Path) -> None:
    """ad01 of MLPerf Tiny (640 -> 128 x 4 -> 8 -> 128 x 4 -> 640), its own head, on synthetic log-mel frames: a hum
    with harmonics, and noise. The error on new frames falls, with the head alone and with all weights."""
    forward = load_model(shared / "data" / "models" / "mlperf_tiny" / "ad01_int8.tflite")
    rng = np.random.default_rng(0)
    mel = np.arange(128)
    machine_hum = sum(np.exp(-0.5 * ((mel - centre) / 3) ** 2) for centre in (14, 28, 42, 56, 90))

    def frames(count: int) -> np.ndarray:
        """Five frames of 128 mel bands in dB, as the model's int8 input."""
        loudness = rng.normal(0, 3, (count, 5, 1))
        db = (
            -45
            + 18 * machine_hum * (1 + 0.1 * rng.normal(0, 1, (count, 5, 1)))
            + loudness
            + rng.normal(0, 1.5, (count, 5, 128))
        )
        x = forward[forward.inputs[0]]
        return np.clip(np.rint(db.reshape(count, 640) / x.scale) + x.zero_point, -128, 127).astype(np.int8)

    for scheme in (Scheme(), all_weights(forward)):
        machine = machine_of(training_graph(forward, scheme.but(loss=RECONSTRUCT)), 0.0)
        unseen = frames(40)
        before = np.mean([machine.train_step(sample)[0] for sample in unseen])
        machine.set_learning_rate(0.02)
        for sample in frames(400):
            machine.train_step(sample)
        machine.set_learning_rate(0.0)
        after = np.mean([machine.train_step(sample)[0] for sample in unseen])
        assert after < 0.5 * before, (before, after)
