# SPDX-License-Identifier: Apache-2.0
"""A small model and data it can learn in seconds, and the plan and firmware made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tests.frontends.onnx_file import OnnxFile

SIZE, CLASSES = 16, 3
X_SCALE, Y_SCALE = 2 / 255, 6 / 255


def write_model(path: Path, classes: int = CLASSES) -> Path:
    """16x16x3 -> conv, depthwise, conv, global average, classifier. Int8 QDQ with the input range -1..1."""
    rng = np.random.default_rng(5)
    file = OnnxFile((1, 3, SIZE, SIZE))
    x, scale = file.qdq("input", X_SCALE, 0), X_SCALE
    for index, (shape, attrs) in enumerate(
        [
            ((8, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
            ((8, 1, 3, 3), {"group": 8, "pads": [1, 1, 1, 1]}),
            ((16, 8, 1, 1), {}),
        ]
    ):
        fan_in = int(np.prod(shape[1:]))
        scales = np.full(shape[0], 2.0 / 127 / np.sqrt(fan_in), np.float32)
        weight = file.weight(rng.integers(-127, 128, shape).astype(np.int8), scales, 0)
        bias = file.weight(rng.integers(0, 4000, shape[0]).astype(np.int32), np.float32(scale) * scales, 0)
        y = file.node("Conv", [x, weight, bias], f"layer{index}", **attrs)
        y = file.node("Clip", [y, file.constant(np.float32(0)), file.constant(np.float32(6))])
        x, scale = file.qdq(y, Y_SCALE, -128), Y_SCALE
    x = file.qdq(file.node("GlobalAveragePool", [x]), Y_SCALE, -128)
    x = file.node("Flatten", [x])
    scales = np.full(classes, 0.01, np.float32)
    weight = file.weight(rng.integers(-127, 128, (classes, 16)).astype(np.int8), scales, 0)
    bias = file.weight(np.zeros(classes, np.int32), np.float32(Y_SCALE) * scales, 0)
    y = file.node("Gemm", [x, weight, bias], "head", transB=1)
    path.write_bytes(file.content(file.qdq(y, 0.1, 0)))
    return path


def write_auto_encoder(path: Path, size: int = 24) -> Path:
    """24 -> 8 -> 24, dense, reals of -1..1."""
    rng = np.random.default_rng(5)
    file = OnnxFile((1, size))
    x, scale = file.qdq("input", X_SCALE, 0), X_SCALE
    for name, inputs, outputs in (("encode", size, 8), ("decode", 8, size)):
        scales = np.full(outputs, 1.5 / 127 / np.sqrt(inputs), np.float32)
        weight = file.weight(rng.integers(-127, 128, (outputs, inputs)).astype(np.int8), scales, 0)
        bias = file.weight(np.zeros(outputs, np.int32), np.float32(scale) * scales, 0)
        x, scale = file.qdq(file.node("Gemm", [x, weight, bias], name, transB=1), X_SCALE, 0), X_SCALE
    path.write_bytes(file.content(x))
    return path


def signals(count: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """Float samples [count, size] on a plane of three dimensions, within -1..1."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(7).normal(0, 0.3, (3, size))
    return np.clip(rng.normal(0, 1, (count, 3)) @ basis, -1, 1).astype(np.float32)


def arrays(train: int = 48, test: int = 21, classes: int = CLASSES, size: int = SIZE) -> dict[str, np.ndarray]:
    """Images whose class is the colour that is strongest, sorted by class as data often is."""
    rng = np.random.default_rng(1)
    made = {}
    for part, count in (("train", train), ("test", test)):
        y = np.sort(np.arange(count) % classes)
        x = rng.integers(0, 120, (count, size, size, 3))
        x[np.arange(count), :, :, y % 3] += 120
        made[f"x_{part}"], made[f"y_{part}"] = x.astype(np.uint8), y
    return made


def write_data(path: Path, **options: int) -> Path:
    np.savez(path, **arrays(**options), class_names=np.array(["red", "green", "blue"]))
    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("small") / "small.onnx")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("small") / "small.npz")


@pytest.fixture(scope="session")
def small_plan(small_model: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "plan.json"
    tinytrain.plan(small_model, board="nrf52840", data=small_data, scheme="all", classes=CLASSES).save(path)
    return path


@pytest.fixture(scope="session")
def small_firmware(small_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinytrain.export(small_plan, tmp_path_factory.mktemp("small") / "firmware")


@pytest.fixture(scope="session")
def batching_firmware(small_model: Path, small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It accumulates gradients."""
    scheme = {"layers": {"layer2": {"bias": True, "input_channels": 0.5}}, "classes": CLASSES}
    made = tinytrain.plan(small_model, board="mps2-an385", data=small_data, scheme=scheme, accumulate=True)
    return tinytrain.export(made, tmp_path_factory.mktemp("small") / "batching")
