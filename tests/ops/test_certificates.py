# SPDX-License-Identifier: Apache-2.0
"""Every operator with a gradient has a certificate, and it holds; a wrong gradient does not get one."""

from __future__ import annotations

import types

import numpy as np
import pytest

from tests.ops import certificate
from tests.ops.certificate import cases_of, certify, differentiable
from tinytrain.ops import lookup
from tinytrain.ops.operator import Operator

pytest.importorskip("torch").set_num_threads(1)


@pytest.mark.parametrize("operator", differentiable())
def test_every_case_of_every_operator_holds(operator: str) -> None:
    for case, graph in cases_of(operator).items():
        rows = certify(operator, case, graph)
        assert rows, f"{operator}, {case}: no gradient reaches anything"
        for row in rows:
            assert row.holds, row


def test_the_list_of_operators_is_what_training_goes_through() -> None:
    assert set(differentiable()) == {
        "add", "average_pool2d", "classifier", "conv2d", "depthwise_conv2d", "fully_connected", "max_pool2d", "mean",
        "mul", "pad", "requantize", "reshape", "transpose",
    }  # fmt: skip


def test_a_gradient_without_a_certificate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate.importlib, "import_module", lambda name: types.ModuleType(name))
    with pytest.raises(AssertionError, match=r"'pad' has a gradient: tests/ops/test_pad\.py"):
        cases_of("pad")


def test_a_wrong_gradient_gets_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is wrong in a way that C and numpy share: they agree, the float operator does not."""
    correct = type(lookup("mean")).gradient

    def off_by_one(self, build, node, gy, wanted):
        (gx,) = correct(self, build, node, gy, wanted)
        build.graph.tensors[gx] = build.graph[gx].but(exponent=build.graph[gx].exponent.shifted(1))
        return [gx]

    monkeypatch.setattr(type(lookup("mean")), "gradient", off_by_one)
    case, graph = next(iter(cases_of("mean").items()))
    assert any(row.bound_share > 100 for row in certify("mean", case, graph))


def test_a_bound_that_is_too_small_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(lookup("conv2d_input_gradient")), "error", lambda *args: 1e-12)
    case, graph = next(iter(cases_of("conv2d").items()))
    assert any(row.bound_share > 1 for row in certify("conv2d", case, graph))


def test_a_wrong_float_definition_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(lookup("add")), "floating", lambda self, graph, node, a, b: a + 2 * b)
    case, graph = next(iter(cases_of("add").items()))
    assert not all(row.holds for row in certify("add", case, graph))


def test_finite_differences_find_what_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(self, graph, node, *inputs):
        return inputs[0] + 3.0 * (inputs[0] - inputs[0].detach())

    assert Operator.floating is not detached
    monkeypatch.setattr(type(lookup("requantize")), "floating", detached)
    case, graph = next(iter(cases_of("requantize").items()))
    assert any(row.differences > 0.5 for row in certify("requantize", case, graph))
    assert np.isfinite([row.cosine for row in certify("requantize", case, graph)]).all()
