# SPDX-License-Identifier: Apache-2.0
"""The keyword spotting front end against its definition written out as sums, and before the published model."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tinytrain.data import InputSpec, gather_samples
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.program import lower
from tinytrain.train import Scheme, training_graph


def written_out(clip: list[float], frame: int) -> list[float]:
    """The ten coefficients of one frame, with no transform but sums."""
    peak = max(clip)
    sound = [clip[320 * frame + n] / peak * (0.5 - 0.5 * math.cos(2 * math.pi * n / 480)) for n in range(480)]
    magnitudes = [abs(sum(s * cmath.exp(-2j * math.pi * k * n / 512) for n, s in enumerate(sound))) for k in range(257)]

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1 + hertz / 700)

    low, high = mel(20), mel(4000)
    edges = [low + (high - low) * n / 41 for n in range(42)]
    logs = []
    for left, middle, right in zip(edges, edges[1:], edges[2:]):
        total = 0.0
        for k in range(1, 257):
            place = mel(k * 16000 / 512)
            total += magnitudes[k] * max(0.0, min((place - left) / (middle - left), (right - place) / (right - middle)))
        logs.append(math.log(total + 1e-6))
    return [
        math.sqrt(2 / 40) * sum(value * math.cos(math.pi * c * (m + 0.5) / 40) for m, value in enumerate(logs))
        for c in range(10)
    ]


def test_a_frame_equals_the_definition_written_out(rng: np.random.Generator) -> None:
    from mfcc import mfcc

    clip = rng.normal(0, 900, 16000) + 3000 * np.sin(2 * np.pi * 700 * np.arange(16000) / 16000)
    found = mfcc(clip)
    assert found.shape == (49, 10, 1) and found.dtype == np.float32
    for frame in (0, 31, 48):
        np.testing.assert_allclose(found[frame, :, 0], written_out(clip.tolist(), frame), rtol=1e-5, atol=1e-4)


def test_silence_is_the_floor_in_every_band() -> None:
    from mfcc import mfcc

    expected = np.zeros(10)
    expected[0] = 40 * math.log(1e-6) * math.sqrt(2 / 40)
    np.testing.assert_allclose(mfcc(np.zeros(16000, np.int16))[:, :, 0], np.tile(expected, (49, 1)), atol=1e-4)


def test_loudness_does_not_matter_and_short_clips_end_in_silence(rng: np.random.Generator) -> None:
    from mfcc import mfcc

    clip = rng.normal(0, 1, 8000)
    np.testing.assert_allclose(mfcc(clip), mfcc(7 * clip), atol=1e-4)
    assert np.array_equal(mfcc(clip), mfcc(np.concatenate([clip, np.zeros(8000)])))


def test_doubling_the_rate_keeps_the_samples_that_were_there(rng: np.random.Generator) -> None:
    from mfcc import resample_double

    n = np.arange(800)
    clip = np.sin(2 * np.pi * 40 * n / 800) + 0.3 * np.cos(2 * np.pi * 111 * n / 800)
    doubled = resample_double(clip)
    np.testing.assert_allclose(doubled[::2], clip, atol=1e-9)
    half = n + 0.5
    between = np.sin(2 * np.pi * 40 * half / 800) + 0.3 * np.cos(2 * np.pi * 111 * half / 800)
    np.testing.assert_allclose(doubled[1::2], between, atol=1e-9)


@pytest.mark.shared
def test_the_published_model_knows_its_words_from_these_features(shared: Path) -> None:
    import words

    data = shared / "data"
    with np.load(data / words.CLIPS) as file:
        names = file["class_names"][file["y"]]
        chosen = np.flatnonzero(np.isin(names, words.OLD))
        x, y = words.features(file["x"][chosen]), [words.OLD.index(name) for name in names[chosen]]
    graph = tinytrain.load(data / words.MODEL)
    samples, machine = gather_samples(x, np.arange(len(x)), InputSpec.of(graph)), _machine(graph)
    logits = [machine.infer(sample) for sample in samples]
    assert np.mean(np.argmax(logits, axis=1) == y) >= 0.9


@pytest.mark.shared
def test_added_classes_leave_the_old_logits_as_they_were(shared: Path, tmp_path: Path) -> None:
    import words

    pytest.importorskip("ai_edge_litert")
    source, target = shared / "data" / words.MODEL, tmp_path / "extended.tflite"
    target.write_bytes(words.extended(source.read_bytes(), 3))
    old, new = (_machine(tinytrain.load(path)) for path in (source, target))
    sample = np.random.default_rng(0).integers(-128, 128, (49, 10, 1)).astype(np.int8)
    before, after = old.infer(sample), new.infer(sample)
    assert after.shape == (15,)
    assert np.array_equal(before, after[:12]) and not after[12:].any()


def _machine(graph: tinytrain.Graph) -> Machine:
    training = training_graph(graph, Scheme())
    return Machine(lower(training, lay_out(training)))
