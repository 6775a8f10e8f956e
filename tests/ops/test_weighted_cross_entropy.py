# SPDX-License-Identifier: Apache-2.0
"""softmax_cross_entropy with smoothed targets and class weights: its own kernel, held to float64 and torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.losses import EDGES, UNIT, differences, factor_error, label_tensor, loss_graph, run_loss, torch_gradient
from tests.twins import no_undefined_behaviour, sanitized_runtime
from tinytrain.errors import GraphError
from tinytrain.host import machine as machine_module
from tinytrain.ops import lookup
from tinytrain.ops.cross_entropy import constants

smoothings = st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.999])


def attrs_of(smoothing: float, weights: tuple[float, ...] | None) -> dict[str, Any]:
    return {"label_smoothing": smoothing, "class_weights": weights}


def run(logits: np.ndarray, label: int, attrs: dict[str, Any]) -> tuple[np.ndarray, int, int]:
    graph = loss_graph("softmax_cross_entropy", logits.size, label_tensor(), attrs)
    inputs = {"y": logits.astype(np.int32), "label": np.array([label], np.int32)}
    return run_loss(graph, inputs)[:3]


def float_loss(z: np.ndarray, label: int, smoothing: float, weight: float) -> float:
    log_p = z - z.max() - math.log(np.exp(z - z.max()).sum())
    return -weight * float((1 - smoothing) * log_p[label] + smoothing * log_p.mean())


def gradient_bound(logits: np.ndarray, attrs: dict[str, Any], label: int) -> np.ndarray:
    """What the plain loss allows for its probabilities, times the weight; what targets and factors are rounded by; and
    one rounding to mantissas, of which 1 - 2^-15 is the largest."""
    z = logits * UNIT
    powers = np.exp(z - z.max())
    probability = powers / powers.sum()
    relative = (3 + z.size / powers.sum()) * UNIT
    weight = (attrs["class_weights"] or (1.0,) * z.size)[label]
    unit = 2.0 ** (constants(attrs, z.size).exponent - 15)
    targets = np.where(np.arange(z.size) == label, z.size, 1) * 2.0**-30
    rounding = 1.5 * unit + factor_error(attrs, z.size)
    return weight * (UNIT + probability * (relative + 3 * UNIT) + UNIT + targets) + rounding


def check(logits: np.ndarray, label: int, smoothing: float, weights: tuple[float, ...] | None) -> None:
    attrs = attrs_of(smoothing, weights)
    weight = 1.0 if weights is None else weights[label]
    mantissas, loss, predicted = run(logits, label, attrs)
    own, z = constants(attrs, logits.size), logits * UNIT
    gradient = mantissas * 2.0 ** (own.exponent - 15)
    powers = np.exp(z - z.max())
    target = np.full(z.size, smoothing / z.size)
    target[label] += 1 - smoothing
    error = np.abs(gradient - weight * (powers / powers.sum() - target))
    assert np.all(error <= gradient_bound(logits, attrs, label)), error.max()
    want = float_loss(z, label, smoothing, weight)
    # as of the plain loss, times the weight; the smoothing is rounded by up to 2^-30 of every distance
    spread = (z.max() - z).sum() * 2.0**-30
    bound = weight * ((3 + z.size / powers.sum() + 4) * UNIT + 2 * spread) + UNIT
    bound += want / weight * factor_error(attrs, z.size)
    if want < 32767 * min(1.0, weight):
        assert abs(loss * UNIT - want) <= bound
    assert predicted == int(np.argmax(logits))


@given(
    st.lists(st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1)), min_size=2, max_size=9),
    smoothings, st.booleans(), st.data(),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_logits_of_any_size(values, smoothing, weighted, data):
    exact = st.one_of(st.sampled_from([0.001, 0.5, 1.0, 2.0, 1000.0]), st.floats(0.001, 1000))
    weights = tuple(data.draw(st.lists(exact, min_size=len(values), max_size=len(values)))) if weighted else None
    check(np.array(values, np.int64), data.draw(st.integers(0, len(values) - 1)), smoothing, weights)


@given(st.integers(2, 40), st.floats(0.01, 8), smoothings, st.booleans(), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_logits_as_they_occur(classes, spread, smoothing, weighted, seed):
    rng = np.random.default_rng(seed)
    weights = tuple(10.0 ** rng.uniform(-3, 3, classes)) if weighted else None
    logits = np.round(rng.normal(0, spread, classes) * 65536).astype(np.int64)
    check(logits, int(rng.integers(classes)), smoothing, weights)


@pytest.mark.parametrize(
    "smoothing, weights", [(0.1, None), (0.0, (0.25, 3.0, 1.0, 7.5)), (0.3, (0.25, 3.0, 1.0, 7.5))]
)
def test_the_gradient_is_the_difference_quotient_of_the_float_loss(smoothing, weights):
    rng = np.random.default_rng(3)
    for _ in range(10):
        logits = np.round(rng.normal(0, 2, 4) * 65536).astype(np.int64)
        label = int(rng.integers(4))
        attrs = attrs_of(smoothing, weights)
        gradient = run(logits, label, attrs)[0] * 2.0 ** (constants(attrs, 4).exponent - 15)
        weight = weights[label] if weights else 1.0

        def loss(z, label=label, weight=weight):
            return float_loss(z, label, smoothing, weight)

        want = differences(loss, logits * UNIT)
        assert np.all(np.abs(gradient - want) <= gradient_bound(logits, attrs, label) + 1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 4.0, 0.3)])
def test_the_loss_and_its_gradient_are_torchs(smoothing, weights):
    """reduction="sum": torch's "mean" divides by the weight again. With both options torch weighs each class's share of
    the smoothing by that class's weight; here, as in Keras, a weight belongs to the sample."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for label in range(5):
        logits = np.round(rng.normal(0, 3, 5) * 65536).astype(np.int64)
        attrs = attrs_of(smoothing, weights)
        mantissas, loss, _ = run(logits, label, attrs)
        weight = weights[label] if weights else 1.0
        options = {"label_smoothing": smoothing, "reduction": "sum"}
        factor = weight
        if weights and not smoothing:
            options["weight"], factor = torch.tensor(weights, dtype=torch.float64), 1.0

        def theirs(z, label=label, options=options, factor=factor):
            return factor * torch.nn.functional.cross_entropy(z[None], torch.tensor([label]), **options)

        want, value = torch_gradient(theirs, logits * UNIT)
        got = mantissas * 2.0 ** (constants(attrs, 5).exponent - 15)
        assert np.all(np.abs(got - want) <= gradient_bound(logits, attrs, label))
        assert abs(loss * UNIT - value) <= weight * 12 * UNIT + UNIT + value / weight * factor_error(attrs, 5)


def test_with_weights_of_one_the_bits_are_those_of_the_plain_kernel():
    rng = np.random.default_rng(0)
    for case in range(60):
        classes = int(rng.integers(2, 12))
        logits = np.round(rng.normal(0, 10.0 ** rng.uniform(-2, 3), classes) * 65536).clip(-(2**31), 2**31 - 1)
        if case % 3 == 0:
            logits = rng.choice(np.array(EDGES), classes)
        label = int(rng.integers(classes))
        plain = run(logits, label, {})
        weighted = run(logits, label, attrs_of(0.0, (1.0,) * classes))
        np.testing.assert_array_equal(plain[0], weighted[0])
        assert plain[1:] == weighted[1:]


def test_the_plain_loss_has_the_plain_kernel_and_smoothing_needs_no_table():
    kernels = {}
    for name, attrs in (
        ("plain", {}),
        ("smooth", {"label_smoothing": 0.1}),
        ("weights", {"class_weights": (1.0, 2.0)}),
    ):
        graph = loss_graph("softmax_cross_entropy", 2, label_tensor(), attrs)
        kernels[name] = lookup("softmax_cross_entropy").lower(graph, graph.nodes[0])
    assert kernels["plain"].kernel == "tt_softmax_cross_entropy_s32" and len(kernels["plain"].args) == 5
    assert kernels["smooth"].kernel == kernels["weights"].kernel == "tt_softmax_cross_entropy_weighted_s32"
    assert kernels["smooth"].args["factors"] is None and kernels["weights"].args["factors"].tolist() == [2**29, 2**30]


@pytest.mark.parametrize("classes", [2, 3, 10, 1000, 65535])
@pytest.mark.parametrize("smoothing", [0.0, 1e-9, 0.1, 1 - 1e-9])
def test_targets_add_up_to_one_and_the_label_has_the_largest(classes, smoothing):
    own = constants(attrs_of(smoothing, None), classes)
    assert own.target_label + (classes - 1) * own.target_other == 2**30
    assert 0 <= own.target_other <= own.target_label <= 2**30
    assert abs(own.target_other * 2.0**-30 - smoothing / classes) <= 2.0**-30


def test_the_largest_weight_fits_the_exponent_and_others_keep_their_ratio():
    own = constants(attrs_of(0.0, (0.001, 3.0, 1000.0)), 3)
    assert own.exponent == 10 and own.gradient_exponent.offset == -5
    np.testing.assert_allclose(own.factors * 2.0**-20, [0.001, 3, 1000], rtol=2.0**-10)
    assert constants(attrs_of(0.0, (0.25, 0.5)), 2).factors.tolist() == [2**29, 2**30]


@pytest.mark.parametrize("classes", [2, 65535])
def test_nothing_overflows_at_the_ends(classes, monkeypatch, capfd):
    monkeypatch.setattr(machine_module, "runtime", sanitized_runtime)
    with no_undefined_behaviour(capfd):
        for smoothing in (0.0, 0.5, 1 - 1e-12):
            for weight in (0.001, 1.0, 1000.0):
                attrs = attrs_of(smoothing, (weight,) + (1000.0,) * (classes - 1))
                for low, high in ((-(2**31), 2**31 - 1), (2**31 - 1, -(2**31)), (-(2**31), -(2**31))):
                    logits = np.full(classes, high)
                    logits[0] = low
                    mantissas, loss, _ = run(logits, 0, attrs)
                    assert loss >= 0 and -32768 <= mantissas.min() <= 0 <= mantissas.max()


def test_the_loss_falls_as_the_right_logit_rises_but_not_for_ever():
    """With smoothing a certain answer costs something: the smallest loss is where the softmax is the target."""
    losses = [run(np.array([z, 0, 0]), 0, attrs_of(0.3, None))[1] for z in range(-(8 << 16), 9 << 16, 1 << 13)]
    lowest = int(np.argmin(losses))
    assert all(a >= b for a, b in pairwise(losses[: lowest + 1]))
    assert all(a <= b for a, b in pairwise(losses[lowest:]))
    best = -8 + lowest / 8
    assert abs(best - math.log(0.8 / 0.1)) <= 1 / 8


def test_as_many_weights_as_classes():
    with pytest.raises(GraphError, match="3 class_weights, 2 logits"):
        loss_graph("softmax_cross_entropy", 2, label_tensor(), {"class_weights": (1.0, 2.0, 3.0)})
