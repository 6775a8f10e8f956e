# SPDX-License-Identifier: Apache-2.0
"""The TFLite front end: an int8 .tflite file in, a Graph out."""

from __future__ import annotations

from pathlib import Path

from tinytrain.frontends.tflite import layers, shapes  # noqa: F401  (they register the operators)
from tinytrain.frontends.tflite.convert import Converter
from tinytrain.frontends.tflite.reader import read
from tinytrain.graph import Graph


def load(content: bytes, path: Path) -> Graph:
    """The graph of the bytes of a .tflite file."""
    return Converter(read(content, path)).convert()
