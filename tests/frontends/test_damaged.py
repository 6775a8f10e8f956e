# SPDX-License-Identifier: Apache-2.0
"""Damaged files are refused with a message, whatever the damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.frontends.onnx_file import OnnxFile
from tests.frontends.tflite_file import SAME, TfliteFile
from tinytrain.errors import ModelError
from tinytrain.frontends import load_model


def small_tflite() -> bytes:
    file = TfliteFile()
    x = file.tensor((1, 6, 6, 2), 0.05, -3, name="x")
    y = file.tensor((1, 6, 6, 4), 0.09, 7, name="y")
    weight = file.constant(np.arange(72, dtype=np.int8).reshape(4, 3, 3, 2), [0.01] * 4)
    file.op("CONV_2D", [x, weight, file.constant(np.arange(4, dtype=np.int32), [0.0005] * 4)], [y], Padding=SAME)
    z = file.tensor((1, 4), 0.08, 1, name="z")
    file.op("MEAN", [y, file.constant(np.array([1, 2], np.int32))], [z], KeepDims=False)
    return file.content([x], [z])


def small_onnx() -> bytes:
    file = OnnxFile((1, 2, 6, 6))
    x = file.qdq("input", 0.05, -3)
    weight = file.weight(np.arange(72, dtype=np.int8).reshape(4, 2, 3, 3), [0.01] * 4, 0)
    bias = file.weight(np.arange(4, dtype=np.int32), [0.0005] * 4, 0)
    y = file.node("Relu", [file.node("Conv", [x, weight, bias], pads=[1, 1, 1, 1])])
    return file.content(file.qdq(file.node("GlobalAveragePool", [file.qdq(y, 0.09, -128)]), 0.08, 1))


CONTENT = {"model.tflite": small_tflite(), "model.onnx": small_onnx()}


def load_or_refuse(content: bytes, folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(content)
    try:
        load_model(path)
    except ModelError as error:
        assert name in str(error)


@pytest.mark.parametrize("name", CONTENT)
def test_every_truncation_is_refused(name: str, tmp_path: Path) -> None:
    content = CONTENT[name]
    load_or_refuse(content, tmp_path, name)
    for length in [*range(0, min(len(content), 120)), *range(120, len(content), 13)]:
        load_or_refuse(content[:length], tmp_path, name)


@pytest.mark.parametrize("name", CONTENT)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_load_or_are_refused(name: str, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(CONTENT[name])
    places = st.integers(0, len(content) - 1)
    changes = data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=12))
    for place, value in changes:
        content[place] = value
    load_or_refuse(bytes(content), tmp_path, name)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64, b"\x20\x00\x00\x00TFL3", b"\xff" * 100])
def test_other_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert name in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file '.*absent.onnx'"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        load_model(tmp_path)
