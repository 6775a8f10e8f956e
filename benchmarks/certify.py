# SPDX-License-Identifier: Apache-2.0
"""Certificates: integer gradients beside finite differences and torch, operator by operator, then whole networks.

python benchmarks/certify.py [--write] [NAME ...]       names of models; without any, the operators and every model

With --write docs/certificates.md is replaced. Exit code 1 where a certificate does not hold.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import ROOT, SHARED, model_path, table
from PIL import Image
from rich.console import Console
from rich.table import Table

from tinytrain.certificates import Certificate, certify_network
from tinytrain.data import InputSpec, gather_samples, load_data
from tinytrain.floating import torch_module
from tinytrain.frontends import load_model
from tinytrain.train import all_weights

sys.path.insert(0, str(ROOT))
from tests.ops import certificate as operators

PAGE = ROOT / "docs" / "certificates.md"
SAMPLES = 8
THRESHOLD = 0.999  # of every tensor's cosine, given the same activations
Samples = tuple[np.ndarray, np.ndarray]


def imagenet(spec: InputSpec) -> Samples:
    """The first image of classes 0, 125, 250, ...: ImageNet's validation set, one image per class."""
    with np.load(SHARED / "datasets" / "imagenet1k_one_per_class.npz") as archive:
        packed, offsets, labels = archive["jpeg_x"], archive["joff_x"].astype(int), archive["y"]
    chosen = np.arange(0, len(labels), len(labels) // SAMPLES)[:SAMPLES]
    images = []
    for index in chosen:
        image = Image.open(io.BytesIO(packed[offsets[index] : offsets[index + 1]].tobytes())).convert("RGB")
        images.append(np.asarray(image.resize((spec.shape[1], spec.shape[0]), Image.Resampling.BILINEAR)))
    return gather_samples(np.stack(images), np.arange(len(images)), spec), labels[chosen].astype(np.int64)


def cifar10(spec: InputSpec) -> Samples:
    data = load_data(SHARED / "datasets" / "cifar10.npz", spec)
    chosen = np.arange(SAMPLES)
    return gather_samples(data.x_test, chosen, spec), data.y_test[chosen]


def random_words(spec: InputSpec) -> Samples:
    """Random integers: nobody here has the features this model was trained on."""
    rng = np.random.default_rng(0)
    return rng.integers(-128, 128, (SAMPLES, *spec.shape)).astype(np.int8), rng.integers(0, 12, SAMPLES)


# model -> (where its samples come from, how they are read)
NETWORKS: dict[str, tuple[str, Callable[[InputSpec], Samples]]] = {
    "mcu_models/mcunet-5fps.onnx": ("ImageNet validation images", imagenet),
    "mlperf_tiny/ic_resnet8_int8.tflite": ("CIFAR-10 test images", cifar10),
    "mlperf_tiny/kws_dscnn_int8.tflite": ("random inputs and labels", random_words),
}


def main() -> None:
    torch_module().set_num_threads(1)
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    sections, failed = [], []
    if not wanted:
        rows = operator_rows()
        failed += [f"{row.operator}, {row.case}, {row.input}" for row in rows if not row.holds]
        sections.append(operator_section(rows))
    for name, (source, read) in NETWORKS.items():
        if not wanted or any(word in name for word in wanted):
            graph = load_model(model_path(name))
            samples, labels = read(InputSpec.of(graph))
            certificate = certify_network(graph, all_weights(graph), samples, labels)
            failed += [] if certificate.holds(THRESHOLD) else [name]
            sections.append(network_section(Path(name).stem, source, certificate))
    if "--write" in sys.argv and not wanted:
        PAGE.write_text("\n".join([INTRODUCTION, *sections[:1], NETWORKS_TEXT, *sections[1:]]))
    if failed:
        sys.exit("these certificates do not hold: " + "; ".join(failed))


def operator_rows() -> list[operators.Row]:
    return [
        row
        for operator in operators.differentiable()
        for case, graph in operators.cases_of(operator).items()
        for row in operators.certify(operator, case, graph)
    ]


def operator_section(rows: list[operators.Row]) -> str:
    columns = ("operator", "case", "gradient of", "elements", "FD - autograd", "error / bound", "1 - cosine", "holds")
    cells = [
        (
            row.operator, row.case, row.input, f"{row.size:,}", f"{row.differences:.0e}", f"{row.bound_share:.3f}",
            f"{max(0.0, 1 - row.cosine):.0e}", "yes" if row.holds else "NO",
        )
        for row in rows
    ]  # fmt: skip
    show("operators", columns, cells)
    return f"{OPERATORS}\n{table(columns, cells)}"


def network_section(name: str, source: str, certificate: Certificate) -> str:
    columns = ("tensor", "elements", "cosine, same", "error, same", "cosine, float", "error, float")
    cells = [
        (
            row.short_name, f"{row.size:,}", f"{row.cosine_same:.6f}", f"{row.error_same:.1e}",
            f"{row.cosine_float:.4f}", f"{row.error_float:.1e}",
        )
        for row in certificate.rows
    ]  # fmt: skip
    show(name, columns, cells)
    losses = [("step", *(curve.name for curve in certificate.curves))]
    curves = zip(*(curve.losses for curve in certificate.curves), strict=True)
    steps = [(str(step + 1), *(f"{loss:.3f}" for loss in values)) for step, values in enumerate(curves)]
    show(f"{name}: losses", losses[0], steps)
    free = min(certificate.rows, key=lambda row: row.cosine_float)
    lines = [
        f"## {name}",
        f"{len(certificate.rows)} trained tensors, {sum(row.size for row in certificate.rows):,} parameters; mean "
        f"gradients of {certificate.samples} samples ({source}).",
        f"- **Gradients' arithmetic alone** (same activations): least cosine {certificate.worst.cosine_same:.6f} "
        f"(`{certificate.worst.short_name}`), largest relative error "
        f"{max(row.error_same for row in certificate.rows):.1e}.\n"
        f"- **Against an ordinary float network**: least cosine {free.cosine_float:.4f} (`{free.short_name}`).\n"
        f"- **{len(steps)} steps** on these samples at rate {certificate.rate:.2g}: the loss goes from {steps[0][1]} "
        f"to {steps[-1][1]}; in torch with rounded weights and activations from {steps[0][2]} to {steps[-1][2]}, with "
        f"nothing rounded from {steps[0][3]} to {steps[-1][3]}.",
        f"<details><summary>every tensor</summary>\n\n{table(columns, cells)}\n</details>",
        f"<details><summary>losses</summary>\n\n{table(losses[0], steps)}\n</details>",
    ]
    return "\n\n".join(lines) + "\n"


def show(title: str, columns: tuple[str, ...], cells: list[tuple[str, ...]]) -> None:
    shown = Table(*columns, title=title, title_justify="left")
    for row in cells:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 150).print(shown)


INTRODUCTION = """# Certificates

Is a gradient right? Here every gradient that tinytrain computes in integers stands beside the same gradient in floats.
Everything on this page is written by one command, which needs torch and the shared models:

    make certify

A model of your own: `tinytrain certify model.onnx --scheme scheme.json` prints its table, and exits with 1 where a
tensor's cosine is below `--threshold`.
"""

OPERATORS = """## Operators

Each row is one input of one operator. Three computations of the same gradient meet in it:

1. central differences of the operator's float definition (`Operator.floating`) in double precision, element by element;
2. torch's autograd of the same definition. *FD - autograd* is the largest difference, relative to the largest element;
3. the integers: the gradient nodes that training builds, run by the C runtime, equal to the numpy oracle to the bit.
   *error / bound* is the largest distance from 2, of any element, as a share of what the roundings of that element
   allow (`Operator.error`, derived in each operator's file; weights and biases: the roundings of an update). A bound is
   tight where this is near 1, and wrong where it is above.

Gradients are random over the whole int16 range; outputs within a step of their clamp get none, because there rounding
decides. Cases come from `tests/ops/test_<operator>.py`; an operator with a gradient and without a case fails a test.
"""

NETWORKS_TEXT = """## Whole networks

Every weight and bias of a network trains. *Same activations*: torch is given the int8 network's activations, in double
precision, so all that differs is the arithmetic of the gradients: 16-bit mantissas, and logits' gradients in steps of
2^-15, which is what remains of a sample that is classified well. *Float activations*: torch computes its own, so the
roundings of all int8 activations are in it: the gradient at another point, not a worse gradient.

Losses are of plain gradient descent on all samples at once, at one rate: *integer* on the C runtime; *rounded* in torch
with weights and activations rounded as int8 holds them; *float* with nothing rounded, which is faster where changes are
smaller than half an int8 step of a weight, because they count at once. That *integer* follows *rounded* says what
gradients and updates in integers cost; what is between *rounded* and *float* is the price of int8 weights.
"""

if __name__ == "__main__":
    main()
