# SPDX-License-Identifier: Apache-2.0
"""Front ends: a model file in, a forward Graph out, or a ModelError that names what is in the way."""

from __future__ import annotations

from pathlib import Path

from tinytrain.errors import ModelError
from tinytrain.graph import Graph

TFLITE_IDENTIFIER = b"TFL3"


def load_model(path: Path | str) -> Graph:
    """Read an int8 .tflite or an ONNX QDQ model; the content decides which it is, not the name.

    The graph has no batch dimension, images are [H, W, C], and `graph.attrs` says where it came from:
    file, format ("onnx" or "tflite") and input_layout ("HWC", or "CHW" where the file itself takes CHW images).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"there is no model file '{path}'", fix="check the path") from None
    except OSError as error:
        raise ModelError(f"cannot read the model file '{path}'", why=error.strerror or str(error)) from None
    if content[4:8] == TFLITE_IDENTIFIER:
        from tinytrain.frontends import tflite

        return tflite.load(content, path)
    if path.suffix == ".tflite":
        raise ModelError(
            f"'{path}' is not a TFLite file",
            why="bytes 4 to 8 are not the identifier TFL3: the file is empty, cut short or something else",
            fix="export or download it again",
        )
    from tinytrain.frontends import onnx

    return onnx.load(content, path)


__all__ = ["load_model"]
