# SPDX-License-Identifier: Apache-2.0
"""Writes three packs to train a whole classifier on: PACK/model.onnx or model.tflite, and PACK/data.npz.

    wrist   12 activities; the model knows ten people, the data is of all sixteen
    ecg     4 kinds of beats; the model knows DS1's patients, the data is half and half of the beats of DS2's
    digits  10 spoken digits; the model knows other words (the keyword spotting model of MLPerf Tiny)

data.npz holds x_train, y_train, x_test, y_test (float32 samples, int64 labels) and class_names. The same data and seed
give the same arrays. Plan with a new classifier: `tinytrain plan PACK/model.onnx --data PACK/data.npz --classes N`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import ecg
import numpy as np
import words
import wrist
from adapt import BUILD, SHARED, Example, Samples, data_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--data", type=Path, default=SHARED, help=f"folder of the data packs (default: {SHARED})")
    parser.add_argument("--build", type=Path, default=BUILD, help="where base models are kept")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for make in (wrist_pack, ecg_pack, digits_pack):
        print(make(options.output, options.data, options.build, options.seed))


def wrist_pack(output: Path, data: Path, build: Path, seed: int) -> Path:
    loaded, model = _base(wrist.EXAMPLE, data, build, seed)
    train, test = loaded
    return _write(output / "wrist", model, train, test, wrist.CLASSES)


def ecg_pack(output: Path, data: Path, build: Path, seed: int) -> Path:
    (_, beats), model = _base(ecg.EXAMPLE, data, build, seed)
    order = np.random.default_rng(seed).permutation(len(beats))
    half = len(beats) // 2
    return _write(output / "ecg", model, beats.take(order[:half]), beats.take(order[half:]), ecg.CLASSES)


def digits_pack(output: Path, data: Path, build: Path, seed: int) -> Path:
    loaded = words.load(data_folder(data, words.EXAMPLE.files))
    train, test = (
        Samples(part.x, part.y - len(words.OLD), part.origin)
        for part in (loaded["digits_train"], loaded["digits_test"])
    )
    return _write(output / "digits", loaded["model"], train, test, tuple("0123456789"))


def _base(example: Example, data: Path, build: Path, seed: int) -> tuple[Any, Path]:
    """What an example loads, and its first base model."""
    loaded = example.load(data_folder(data, example.files))
    return loaded, example.model(build, example.splits(loaded, seed)[0], seed)


def _write(folder: Path, model: Path, train: Samples, test: Samples, names: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, folder / f"model{model.suffix}")
    np.savez(
        folder / "data.npz", x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y,
        class_names=np.array(names),
    )  # fmt: skip
    return folder


if __name__ == "__main__":
    main()
