# SPDX-License-Identifier: Apache-2.0
"""Updates: the change of a parameter is lr * gradient / scale, nothing smaller than a step is lost, ranges hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from tests.ops.update_graphs import run, update_graph
from tests.oracle import activation, gradient
from tests.training import machine_of
from tests.twins import no_undefined_behaviour, twins
from tinytrain.errors import SchemeError
from tinytrain.graph import Graph, Phase
from tinytrain.ops.training import HYPER, Constants
from tinytrain.ops.updates import Mode, apply_delta, total_shift

DELTAS = sorted(
    {s * (2**k) + d for k in (0, 7, 8, 15, 16, 30, 31, 47, 48, 61) for s in (1, -1) for d in (-1, 0, 1)}
    | {2**62, -(2**62)}
)
VALUES = {
    Mode.MASTER8: [-127, -1, 0, 126, 127], Mode.STOCHASTIC8: [-127, -1, 0, 126, 127],
    Mode.WEIGHT16: [-32512, -1, 0, 32511, 32512], Mode.BIAS: [-(2**31), -(2**31) + 1, 0, 2**31 - 1],
    Mode.BIAS_STOCHASTIC: [-(2**31), 0, 2**31 - 1], Mode.ACCUMULATE: [-(2**31), 0, 2**31 - 1],
    Mode.TRUNCATE8: [-127, -5, -1, 0, 1, 5, 127], Mode.TRUNCATE16: [-32512, -1, 0, 1, 32512],
    Mode.STOCHASTIC16: [-32512, -1, 0, 32511, 32512],
    Mode.TRUNCATE_BIAS: [-(2**31), -1, 0, 1, 2**31 - 1],
}  # fmt: skip
DTYPES = {
    Mode.MASTER8: np.int8, Mode.STOCHASTIC8: np.int8, Mode.WEIGHT16: np.int16,
    Mode.STOCHASTIC16: np.int16, Mode.TRUNCATE8: np.int8, Mode.TRUNCATE16: np.int16,
}  # fmt: skip
MASTERS = {
    Mode.MASTER8: (np.int8, 8, [-128, -1, 0, 127], 127),
    Mode.BIAS: (np.int16, 16, [-32768, 0, 32767], 2**31 - 1),
}


@pytest.fixture(autouse=True)
def defined(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    with no_undefined_behaviour(capfd):
        yield


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.STORE])
def test_a_delta_is_subtracted_exactly_and_saturates_in_numpy_and_c(mode: Mode) -> None:
    dtype = DTYPES.get(mode, np.int32)
    fraction_type, bits, fractions, limit = MASTERS.get(mode, (None, 0, [0], 0))
    for value, fraction, delta in itertools.product(VALUES[mode], fractions, DELTAS):
        targets = [np.array([value], dtype)] + ([np.array([fraction], fraction_type)] if fraction_type else [])
        got = [array[0].item() for array in apply_delta(mode, np.array([delta], np.int64), targets)]
        if mode is Mode.ACCUMULATE:
            want = [min(max(value + min(max(delta, -(2**31)), 2**31 - 1), -(2**31)), 2**31 - 1)]
        elif fraction_type:
            whole = (value << bits) + fraction - min(max(delta, -(2**48)), 2**48)
            whole = min(max(whole, -(limit << bits)), limit << bits)
            want = [(whole + (1 << bits - 1)) >> bits, 0]
            want[1] = whole - (want[0] << bits)
        elif mode in (Mode.TRUNCATE8, Mode.TRUNCATE16, Mode.TRUNCATE_BIAS):
            limit = {1: 127, 2: 32512, 4: 2**31 - 1}[targets[0].itemsize]
            want = [math.trunc(min(max(Fraction(value) - Fraction(delta, 65536), -limit), limit))]
        else:
            low, high = {8: (-127, 127), 16: (-32512, 32512), 32: (-(2**31), 2**31 - 1)}[targets[0].itemsize * 8]
            want = [min(max(value - delta, low), high)]
        assert got == want, (mode, value, fraction, delta)
        parameter, master, total = (
            targets[0].copy(),
            (targets[1:] or [np.zeros(1, np.int8)])[0].copy(),
            np.array([value], np.int32),
        )
        ffi = twins().ffi
        twins().lib.shim_apply(
            int(mode), ffi.cast("void *", parameter.ctypes.data), ffi.cast("void *", master.ctypes.data),
            ffi.cast("int32_t *", total.ctypes.data), delta,
        )  # fmt: skip
        c = [int(total[0])] if mode is Mode.ACCUMULATE else [int(parameter[0]), int(master[0])][: len(want)]
        assert c == want, (mode, value, fraction, delta)


def layer(
    dtype: str, master: bool, scales, weight=None, exponent=-15, scaling="qas", size=(4, 5), accumulate=False,
    truncates=False, constants=None,
) -> Graph:  # fmt: skip
    """The weight of a layer of one pixel."""
    weight = np.zeros(size, dtype) if weight is None else weight
    attrs = {"x_scale": 0.02, "block": (0, size[0], 0, size[1]), "kernel": (1, 1), "scaling": scaling}
    operands = [activation("x", (size[1],), 0.02, -5), gradient("gy", (size[0],), exponent)]
    graph = update_graph(
        "conv2d_weight_update", operands, weight, scales, attrs, master=master, accumulate=accumulate,
        constants=constants,
    )  # fmt: skip
    graph.tensors["p"] = graph["p"].but(truncates=truncates)
    return graph


@pytest.mark.parametrize("scaling", ["qas", 1.0])
def test_a_channels_change_is_scaled_by_its_quantization(scaling: str | float) -> None:
    """An int8 weight of step s moves by lr * g / s of its steps: s^-2 times what a plain int8 update would do."""
    rng = np.random.default_rng(0)
    x, gy = rng.integers(-128, 128, 5).astype(np.int8), np.array([9000, -20000, 31000, 500], np.int16)
    scales = np.array([0.01, 0.05, 0.2, 0.02])
    after = run(layer("int8", True, scales, scaling=scaling), {"x": x, "gy": gy}, 0.25)
    real = (gy * 2.0**-15)[:, None] * (x.astype(float) + 5) * 0.02
    gain = 1 / scales if scaling == "qas" else scales
    got = after["p"] + after["p.master"] / 256
    np.testing.assert_allclose(got, -0.25 * real * gain[:, None], atol=0.51 / 256)


def test_updates_far_below_a_step_are_kept_by_the_master() -> None:
    """Two hundredths of a step, a thousand times: truncation would have left the weight where it was."""
    x, gy = np.full(5, 45, np.int8), np.full(4, 3277, np.int16)  # 50 steps of 0.02 are 1.0; gy is 0.1
    graph = layer("int8", True, 1.0)
    after = run(graph, {"x": x, "gy": gy}, 0.2, steps=1000)
    got = after["p"] + after["p.master"] / 256
    assert np.all(after["p"] < -15)
    np.testing.assert_allclose(got, -1000 * 5 / 256, atol=1e-9)  # 0.02 rounds to 5/256


def test_updates_far_below_a_step_are_kept_on_average_by_stochastic_rounding() -> None:
    x, gy = np.full(50, 45, np.int8), np.full(40, 3277, np.int16)
    graph = layer("int8", False, 1.0, size=(40, 50))
    machine_steps = 40
    moved = np.zeros((40, 50))
    for step in range(machine_steps):
        after = run(graph, {"x": x, "gy": gy}, 0.2, seed=step)  # from zero each time
        assert set(np.unique(after["p"]).tolist()) <= {-1, 0}
        moved += after["p"]
    assert abs(moved.mean() / machine_steps + 0.02) < 5 * np.sqrt(0.02 / moved.size / machine_steps)


def test_neither_rounding_drifts_towards_zero() -> None:
    """Gradients that cancel leave weights of either sign where they are."""
    weight = np.array([[100, -100, 3, -3, 0]] * 4, np.int8)
    for master in (True, False):
        graph = layer("int8", master, 1.0, weight)
        rng = np.random.default_rng(0)
        total = np.zeros(weight.shape)
        for seed in range(200):
            gy = (rng.integers(1, 3000, 4) * (1 if seed % 2 else -1)).astype(np.int16)
            after = run(graph, {"x": np.full(5, 45, np.int8), "gy": gy}, 0.2, seed=seed)
            total += after["p"] - weight + (after["p.master"] / 256 if master else 0)
        drift = (total * np.sign(weight)).sum() / total.size
        assert abs(drift) < 1.5, f"master={master}: {drift}"


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_truncation_drifts_towards_zero(dtype: str) -> None:
    """Gradients that cancel, as above: each step of less than one takes a whole one off every weight it points down."""
    weight = np.array([[100, -100, 30, -30, 0]] * 4, dtype)
    graph = layer(dtype, False, 1.0, weight, truncates=True)
    for _ in range(20):
        for sign in (1, -1):
            inputs = {"x": np.full(5, 45, np.int8), "gy": np.full(4, sign * 3277, np.int16)}  # 0.02 of a step
            graph.tensors["p"] = graph["p"].but(data=run(graph, inputs, 0.2)["p"])
    np.testing.assert_array_equal(graph["p"].data, [[80, -80, 10, -10, 0]] * 4)


def test_weights_stay_symmetric() -> None:
    """-128 is never reached: int8 weights are symmetric."""
    for dtype, master, limit in (("int8", True, 127), ("int8", False, 127), ("int16", False, 32512)):
        graph = layer(dtype, master, 1e-3)
        for sign in (1, -1):
            after = run(
                graph, {"x": np.full(5, 127, np.int8), "gy": np.full(4, sign * 32767, np.int16)}, 1000.0, steps=2
            )
            assert set(after["p"].ravel().tolist()) == {-sign * limit}


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, 1e-45, 1e40])
def test_a_scale_that_no_multiplier_can_hold_is_refused(scale: float) -> None:
    graph = layer("int8", True, [0.1, scale, 0.1, 0.1])
    with (
        pytest.raises(SchemeError, match="'layer' cannot be trained: channel 1 has the update factor"),
        np.errstate(all="ignore"),
    ):
        run(graph, {"x": np.zeros(5, np.int8), "gy": np.zeros(4, np.int16)}, 0.1)


@pytest.mark.parametrize("pixels", [1, 257, 66000])
def test_the_reducing_shift_brings_the_largest_sum_into_32_bits_and_no_further(pixels: int) -> None:
    operands = [activation("x", (1, pixels, 1)), gradient("gy", (1, pixels, 1))]
    attrs = {"x_scale": 1.0, "block": (0, 1, 0, 1), "kernel": (1, 1)}
    graph = update_graph("conv2d_weight_update", operands, np.zeros((1, 1, 1, 1), np.int8), 1.0, attrs)
    shift = total_shift(graph, graph.nodes[0])
    largest = pixels * 32768 * 255
    assert largest >> shift < 2**31
    assert shift == 0 or largest >> (shift - 1) >= 2**31
    run(graph, {"x": np.full((1, pixels, 1), -128, np.int8), "gy": np.full((1, pixels, 1), -32768, np.int16)}, 1e-12)


def test_the_largest_products_are_exact() -> None:
    """66000 pixels of the largest gradient and the largest difference: the sum passes 32 bits."""
    pixels = 66000
    operands = [activation("x", (1, pixels, 1), 1.0, 127), gradient("gy", (1, pixels, 1), -40)]
    attrs = {"x_scale": 1.0, "block": (0, 1, 0, 1), "kernel": (1, 1)}
    graph = update_graph("conv2d_weight_update", operands, np.zeros((1, 1, 1, 1), np.int8), 0.01, attrs, master=True)
    after = run(
        graph, {"x": np.full((1, pixels, 1), -128, np.int8), "gy": np.full((1, pixels, 1), -32768, np.int16)}, 0.5
    )
    want = -Fraction(pixels * 255 * 32768) / 2**40 * Fraction(0.5) / Fraction(0.01)
    got = after["p"].item() + after["p.master"].item() / 256
    assert abs(got - float(want)) <= 1 / 256


def test_two_parameters_never_share_random_words() -> None:
    """Each update node has a stream of its own, also the nodes that end a batch."""
    graph = layer("int8", False, 1.0, accumulate=True)
    streams = [node.attrs["stream"] for node in graph.nodes]
    assert len(set(streams)) == len(streams) == 2
    assert graph[HYPER].role == "state"


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype,master", [("int8", True), ("int8", False), ("int16", False)])
def test_a_weight_decays_by_its_share_however_little_that_is(dtype: str, master: bool, accumulate: bool) -> None:
    """rate * decay of 1e-4 a step, 200 times, without a gradient: 2 % in the mean over many weights."""
    weight = np.full((40, 50), 100 if dtype == "int8" else 100 * 256, dtype)
    graph = layer(
        dtype, master, 1.0, weight, size=(40, 50), accumulate=accumulate, constants=Constants(weight_decay=0.01)
    )
    machine = machine_of(graph, 0.01)
    machine.view("x")[:] = -5
    for step in range(200):
        machine.view(HYPER)[3] = step
        machine.run([Phase.UPDATE, Phase.APPLY])
    got = machine.view("p").astype(float)
    if master:
        got += machine.view("p.master") / 256
    lost = 1 - got.mean() / float(weight[0, 0])
    assert lost == pytest.approx(1 - (1 - 1e-4) ** 200, rel=0.1)


def test_biases_do_not_decay_and_no_decay_changes_no_bits() -> None:
    operands, value = [gradient("gy", (3,))], np.array([1000, -1000, 5], np.int32)
    graph = update_graph("bias_update", operands, value, 1.0, {"x_scale": 1.0}, constants=Constants(weight_decay=1.0))
    assert np.array_equal(run(graph, {"gy": np.zeros(3, np.int16)}, 0.5)["p"], value)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.integers(-128, 128, 5).astype(np.int8), "gy": rng.integers(-3000, 3000, 4).astype(np.int16)}
    weight = rng.integers(-127, 128, (4, 5)).astype(np.int8)
    with_none, without = (
        run(layer("int8", True, 1.0, weight, constants=constants), inputs, 0.2, steps=5)
        for constants in (Constants(weight_decay=0.0), None)
    )
    assert np.array_equal(with_none["p"], without["p"]) and np.array_equal(with_none["p.master"], without["p.master"])
