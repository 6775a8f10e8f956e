# SPDX-License-Identifier: Apache-2.0
"""Small one-dimensional networks: trained with torch, exported to ONNX, quantized to int8 by onnxruntime, and cached.

A signal is float32 [length, channels]; to the network it is an image of height `length` and width 1.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import warnings
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CALIBRATION = 200  # samples on which onnxruntime measures the ranges of activations


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    widths: channels after the first convolution and after each depthwise separable block, which halves the length
    kernel, stride: of the first convolution
    """

    widths: tuple[int, ...]
    kernel: int
    stride: int
    epochs: int
    lr: float = 0.005
    batch: int = 64
    noise: float = 0.0  # deviation of Gaussian noise added to every sample, as augmentation


def base_model(folder: Path, name: str, recipe: Recipe, x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Path:
    """The int8 network of a recipe for this data, made once: folder/NAME-HASH.onnx.

    x: float32 [N, length, channels], y: int [N]; the hash is that of data, recipe, seed and this module's text.
    """
    content = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode())
    content.update(repr((astuple(recipe), classes, seed, x.shape)).encode())
    content.update(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y, np.int64).tobytes())
    path = folder / f"{name}-{content.hexdigest()[:12]}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _make(path, recipe, x, y, classes, seed)
    return path


def _make(path: Path, recipe: Recipe, x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> None:
    network = _trained(recipe, _images(x), y, classes, seed)
    exported = path.with_suffix(".float")
    try:
        _export(network, x.shape[1:], exported)
        chosen = np.random.default_rng(seed).permutation(len(x))[:CALIBRATION]
        _quantize(exported, _images(x[chosen]), path)
    finally:
        exported.unlink(missing_ok=True)


def _images(x: np.ndarray) -> np.ndarray:
    """[N, length, channels] -> [N, channels, length, 1]"""
    return np.ascontiguousarray(x.transpose(0, 2, 1)[..., None], np.float32)


def _network(recipe: Recipe, channels: int, classes: int) -> Any:
    """conv -> (depthwise, pointwise)* -> mean over time -> linear; batch norm and ReLU after every convolution."""
    from torch import nn

    def conv(ci: int, co: int, kernel: int, stride: int, groups: int = 1) -> list[Any]:
        layer = nn.Conv2d(ci, co, (kernel, 1), (stride, 1), (kernel // 2, 0), groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(co), nn.ReLU()]

    layers = conv(channels, recipe.widths[0], recipe.kernel, recipe.stride)
    for ci, co in zip(recipe.widths, recipe.widths[1:]):
        layers += conv(ci, ci, 5, 2, groups=ci) + conv(ci, co, 1, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(recipe.widths[-1], classes))


def _trained(recipe: Recipe, x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Any:
    """Adam with a cosine over the learning rate; every class counts the same, however many samples it has."""
    try:
        import torch
    except ImportError:
        sys.exit("the base networks are trained with torch, which is not installed: TORCH=1 scripts/bootstrap")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = _network(recipe, x.shape[1], classes)
    counts = np.bincount(y, minlength=classes)
    weights = torch.tensor(np.where(counts, len(y) / np.maximum(counts, 1) / classes, 0), dtype=torch.float32)
    lossfn = torch.nn.CrossEntropyLoss(weights.clamp(max=5.0))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    optimizer = torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=1e-3)
    steps = recipe.epochs * (len(x) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    network.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - recipe.batch + 1, recipe.batch):
            chosen = order[start : start + recipe.batch]
            batch = inputs[chosen]
            if recipe.noise:
                batch = batch + recipe.noise * torch.randn(batch.shape)
            optimizer.zero_grad()
            lossfn(network(batch), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _export(network: Any, shape: tuple[int, ...], path: Path) -> None:
    """To ONNX; the exporter folds batch norms into the convolutions."""
    import torch

    length, channels = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, (torch.zeros(1, channels, length, 1),), str(path), dynamo=False, opset_version=17,
            input_names=["signal"], output_names=["classes"],
        )  # fmt: skip


def _quantize(source: Path, x: np.ndarray, path: Path) -> None:
    """onnxruntime's static quantization: QDQ, weights per channel. x: [N, channels, length, 1]"""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = iter(x)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else {"signal": sample[None]}

    logging.disable(logging.WARNING)  # it recommends preprocessing, which has nothing to do here
    partial = path.with_suffix(".partial")
    try:
        quantize_static(
            source, partial, Samples(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    partial.replace(path)
