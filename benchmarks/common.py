# SPDX-License-Identifier: Apache-2.0
"""What the benchmark scripts share: where models and data are, and how a section of docs/benchmarks.md is replaced."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "benchmarks.md"
MODELS = (
    "mcu_models/mcunet-5fps.onnx",
    "mcu_models/mbv2-w0.35.onnx",
    "mlperf_tiny/vww_96_int8.tflite",
    "mlperf_tiny/ic_resnet8_int8.tflite",
    "mlperf_tiny/kws_dscnn_int8.tflite",
    "mlperf_tiny/ad01_int8.tflite",
    "tinyengine/mcunet_vww_int8.tflite",
    "tinyengine/mcunetv2_large_int8.tflite",
    "tflm/person_detect.tflite",
    "tflm/micro_speech_quantized.tflite",
    "tflm/mobilenet_v2_1.0_224_int8.tflite",
)


def model_path(name: str) -> Path:
    path = SHARED / "models" / name
    if not path.is_file():
        sys.exit(f"{path} is not there: this benchmark needs the shared models beside the checkout")
    return path


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    columns = list(columns)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def publish(section: str, text: str, page: Path = PAGE, quiet: bool = False) -> None:
    """Print a section (unless quiet); with --write, put it between its markers in a page of docs/."""
    if not quiet:
        print(text)
    if "--write" in sys.argv:
        begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
        old = page.read_text()
        fresh, count = re.subn(
            re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{text}{end}", old, flags=re.DOTALL
        )
        if not count:
            sys.exit(f"docs/{page.name} has no section {begin}")
        page.write_text(fresh)
