# SPDX-License-Identifier: Apache-2.0
"""Real inputs for the shared models: photographs, and spectrograms of spoken words."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


def samples(shared: Path, shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """int8 arrays of a model's input shape: images where it takes images, sound elsewhere."""
    if len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) >= 30:
        return [photograph(shared, shape, index) for index in range(count)]
    return [spectrogram(shared, shape, index) for index in range(count)]


def photograph(shared: Path, shape: tuple[int, ...], index: int) -> np.ndarray:
    """pixel - 128 of an ImageNet image, resized."""
    offsets, blob = _images(shared / "data/datasets/imagenet1k_one_per_class.npz")
    number = 37 * index + 5
    stored = Image.open(io.BytesIO(blob[offsets[number] : offsets[number + 1]]))
    image = stored.convert("L" if shape[2] == 1 else "RGB").resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return (np.asarray(image, np.int16).reshape(shape) - 128).astype(np.int8)


@cache
def _images(path: Path) -> tuple[np.ndarray, bytes]:
    pack = np.load(path)
    return pack["joff_x"], pack["jpeg_x"].tobytes()


def spectrogram(shared: Path, shape: tuple[int, ...], index: int) -> np.ndarray:
    """Log power of a spoken word over time and frequency, brought to the wanted size and to the int8 range."""
    sound = np.load(shared / "data/datasets/speech_commands_v1_30x10.npz")["x"][13 * index].astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 480)[::320] * np.hanning(480)
    power = np.log1p(np.abs(np.fft.rfft(frames, axis=1))[:, 1:161]).reshape(-1)
    size = int(np.prod(shape))
    values = np.interp(np.linspace(0, 1, size), np.linspace(0, 1, power.size), power)
    low, high = values.min(), values.max()
    return (
        np.clip(np.rint((values - low) / max(high - low, 1e-9) * 255) - 128, -128, 127).astype(np.int8).reshape(shape)
    )
