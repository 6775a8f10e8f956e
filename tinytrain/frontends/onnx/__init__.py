# SPDX-License-Identifier: Apache-2.0
"""The ONNX front end: an int8 QDQ model in, a Graph out."""

from __future__ import annotations

from pathlib import Path

from tinytrain.frontends.onnx import layers, shapes  # noqa: F401  (they register the operators)
from tinytrain.frontends.onnx.convert import Converter
from tinytrain.frontends.onnx.reader import read
from tinytrain.graph import Graph


def load(content: bytes, path: Path) -> Graph:
    """The graph of the bytes of an ONNX file; `path` finds weights that are stored beside it."""
    return Converter(read(content, path)).convert()
