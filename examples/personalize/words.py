# SPDX-License-Identifier: Apache-2.0
"""New words: MLPerf Tiny's keyword spotting model (ten words, silence, unknown) learns ten more from a few clips each.

The model's classifier is extended: ten rows of zeros are added to the file, so the old words keep what they had. The
device stores a few clips of each old word. Data: speech_commands_v1_30x10.npz (10 clips of 30 words each) for the old
words and ten new ones; fsdd_digits.npz (6 speakers, 8 kHz, resampled) for the digits. Features: mfcc.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from adapt import Case, Example, Learning, Samples, Split, main, some_of_each_class
from mfcc import RATE, mfcc, resample_double

from tinytrain.graph import Graph
from tinytrain.train import LayerUpdate, Scheme, Slice, trainable_layers

MODEL = "models/mlperf_tiny/kws_dscnn_int8.tflite"
CLIPS, DIGITS = "datasets/speech_commands_v1_30x10.npz", "datasets/fsdd_digits.npz"
OLD = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")
NEW = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
EXTRA = 10  # classes added
STORED = 4  # clips of each old word on the device; the other 6 test forgetting
SHOWN_DIGITS, SHOWN_WORDS = 10, 5  # clips of each new word


def load(folder: Path) -> dict[str, Any]:
    """MFCCs: of the old words, of the new ones, of the digits to show and to test; and the model's file."""
    with np.load(folder / CLIPS) as file:
        names = file["class_names"][file["y"]]
        old, new = (_clips(file["x"], names, group, file["speaker"]) for group in (OLD, NEW))
    loaded: dict[str, Any] = {"old": old, "new": _renumbered(new), "model": folder / MODEL}
    with np.load(folder / DIGITS) as file:
        for part in ("train", "test"):
            x = features([centred(resample_double(spoken(clip))) for clip in file[f"x_{part}"]])
            digits = Samples(x, file[f"y_{part}"].astype(np.int64), file[f"speaker_{part}"].astype(str))
            loaded[f"digits_{part}"] = _renumbered(digits)
    return loaded


def _clips(x: np.ndarray, names: np.ndarray, group: tuple[str, ...], speakers: np.ndarray) -> Samples:
    chosen = np.flatnonzero(np.isin(names, group))
    return Samples(features(x[chosen]), np.array([group.index(name) for name in names[chosen]]), speakers[chosen])


def _renumbered(samples: Samples) -> Samples:
    """New words are the classes after the old ones."""
    return Samples(samples.x, samples.y + len(OLD), samples.origin)


def features(clips: Any) -> np.ndarray:
    return np.stack([mfcc(clip) for clip in clips])


def spoken(clip: np.ndarray) -> np.ndarray:
    """Without the zeros that fill up a clip of this pack."""
    return clip[: np.flatnonzero(clip).max(initial=0) + 1]


def centred(clip: np.ndarray) -> np.ndarray:
    """In the middle of one second, as a detector of speech would cut it out."""
    second = np.zeros(RATE)
    start = max(0, (RATE - len(clip)) // 2)
    second[start : start + len(clip)] = clip[:RATE]
    return second


def splits(loaded: dict[str, Any], seed: int) -> list[Split]:
    rng = np.random.default_rng(seed)
    old, new, digits = loaded["old"], loaded["new"], loaded["digits_train"]
    stored = some_of_each_class(old.y, STORED, rng)
    shown = some_of_each_class(new.y, SHOWN_WORDS, rng)
    cases = [
        Case("ten digits", digits.take(some_of_each_class(digits.y, SHOWN_DIGITS, rng)), loaded["digits_test"]),
        Case("ten other words", new.take(shown), new.take(np.setdiff1d(np.arange(len(new)), shown))),
    ]
    held = old.take(np.setdiff1d(np.arange(len(old)), stored))
    return [Split("", old.take(stored), held, cases, loaded["model"])]


def model(build: Path, split: Split, seed: int) -> Path:
    """The published model with the new classes."""
    assert split.source is not None
    path = build / f"words-{len(OLD) + EXTRA}.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(extended(split.source.read_bytes(), EXTRA))
    return path


def extended(tflite: bytes, extra: int) -> bytes:
    """The same model with `extra` more classes, whose weights and biases are 0. Its classifier is fully connected."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    graph = model.subgraphs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    dense = schema.BuiltinOperator.FULLY_CONNECTED
    index = max(i for i, operator in enumerate(graph.operators) if codes[operator.opcodeIndex] == dense)
    for tensor in (graph.tensors[i] for i in graph.operators[index].inputs[1:]):  # weight [CO, CI], bias [CO]
        buffer = model.buffers[tensor.buffer]
        row = len(buffer.data) // tensor.shape[0]
        buffer.data = np.concatenate([buffer.data, np.zeros(extra * row, np.uint8)])
        tensor.shape = [tensor.shape[0] + extra, *tensor.shape[1:]]
    for tensor in (graph.tensors[i] for operator in graph.operators[index:] for i in operator.outputs):
        tensor.shape = [*tensor.shape[:-1], tensor.shape[-1] + extra]
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = [*tensor.shapeSignature[:-1], tensor.shape[-1]]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def scheme(graph: Graph) -> Scheme:
    """The classifier and the last convolution before it."""
    return Scheme({trainable_layers(graph)[-1].name: LayerUpdate(True, Slice("all"))})


EXAMPLE = Example(
    "words", "New words for a keyword spotter", OLD + tuple(f"new {i}" for i in range(EXTRA)), "nrf52840", "40K",
    Learning(epochs=20, lr=0.05, replay=STORED), (MODEL, CLIPS, DIGITS), load, splits, model, scheme, board_epochs=1,
)  # fmt: skip

if __name__ == "__main__":
    main(EXAMPLE)
