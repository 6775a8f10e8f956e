# SPDX-License-Identifier: Apache-2.0
"""The command `fit`: what a scheme learns, on this machine, with the bits of a board."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinytrain.cli.application import Interrupted, print_json
from tinytrain.cli.commands import Json, Schedule, app, example, kind_or_json

if TYPE_CHECKING:
    from tinytrain.learning import FitProgress


class Update(enum.StrEnum):
    """What becomes of updates smaller than one integer step; "truncate" is there to be compared with."""

    MASTER = "master"
    STOCHASTIC = "stochastic"
    TRUNCATE = "truncate"


class Gradients(enum.StrEnum):
    INT16 = "int16"
    INT8 = "int8"


class Scaling(enum.StrEnum):
    """Whether an update is scaled by its channel's quantization."""

    QAS = "qas"
    NONE = "none"


@app.command(epilog=example("fit net.onnx --data pets.npz --scheme scheme.json --epochs 12 --augment flip --seeds 3"))
def fit(
    model: Annotated[Path, typer.Argument(help="An int8 .tflite file, or an ONNX file with QDQ nodes.")],
    data: Annotated[Path, typer.Option(help="An .npz file, or a folder of class folders of images.")],
    scheme: Annotated[
        str, typer.Option(help="A scheme or plan file, 'head' (the classifier alone) or 'all'.", metavar="FILE")
    ] = "head",
    scheme_key: Annotated[
        str | None,
        typer.Option(help="One scheme of a file that holds several, such as mcunet-5fps/49kb.", metavar="KEY"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="A new classifier of so many classes. By default the data decides.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training samples.")] = 12,
    batch: Annotated[int, typer.Option(min=1, help="Samples per update; more than 1 accumulates gradients.")] = 8,
    lr: Annotated[
        float | None,
        typer.Option(min=0.0, help="Learning rate of a batch's mean gradient.", show_default="0.005 x batch"),
    ] = None,
    schedule: Annotated[Schedule, typer.Option(help="Of the learning rate; cosine comes with a warm-up.")] = (
        Schedule.COSINE
    ),
    augment: Annotated[
        str, typer.Option(help="Random changes of training samples: flip,shift=4,crop=0.875,gain=0.1", metavar="LIST")
    ] = "",
    seed: Annotated[int, typer.Option(help="The first seed: of order, augmentation and stochastic rounding.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings, each with the next seed.")] = 1,
    update: Annotated[Update | None, typer.Option(help="Instead of the scheme's.", show_default="master")] = None,
    gradients: Annotated[Gradients | None, typer.Option(help="Instead of the scheme's.", show_default="int16")] = None,
    scaling: Annotated[Scaling | None, typer.Option(help="Instead of the scheme's.", show_default="qas")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Instead of the scheme's: a kind, or JSON.", metavar="KIND", show_default="sgd")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Instead of the scheme's: a kind, or JSON.", metavar="KIND", show_default="cross_entropy"),
    ] = None,
    evaluate: Annotated[
        int | None,
        typer.Option("--eval", min=0, help="Test samples used for accuracy.", show_default="all", metavar="N"),
    ] = None,
    eval_every: Annotated[int, typer.Option(min=1, help="Epochs between two evaluations.")] = 1,
    head_start: Annotated[
        bool, typer.Option("--head-start/--no-head-start", help="Also train the classifier alone, for one epoch.")
    ] = True,
    float_reference: Annotated[
        bool, typer.Option("--float-reference", help="Also train every seed in float, for comparison; needs torch.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds trained at a time, each in a process.")] = 1,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Keep every epoch's end here; the same command goes on from it.", metavar="FOLDER"),
    ] = None,
    cache: Annotated[str, typer.Option(help="Memory for what frozen layers compute: bytes, 512M or 4G.")] = "4G",
    as_json: Json = False,
) -> None:
    """Train on this machine with the bits of a board, and measure what was learnt."""
    from tinytrain import api
    from tinytrain.cli.live import live

    chosen = {"update": update, "gradients": gradients, "scaling": scaling}
    overrides: dict[str, Any] = {name: choice.value for name, choice in chosen.items() if choice is not None}
    kinds = {"optimizer": optimizer, "loss": loss}
    overrides |= {name: kind_or_json(f"--{name}", text) for name, text in kinds.items() if text}
    try:
        with live() as show:
            report = api.fit(
                model, data, scheme=scheme, scheme_key=scheme_key, classes=classes, epochs=epochs, batch=batch, lr=lr,
                schedule=schedule.value, augment=augment, seeds=range(seed, seed + seeds), eval_count=evaluate,
                eval_every=eval_every, overrides=overrides, head_start=head_start,
                float_reference=float_reference, jobs=jobs, checkpoint=checkpoint, cache=cache, progress=_shown(show),
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop)) from None
    if as_json:
        print_json(report.as_dict())
    else:
        from tinytrain.cli.tables import show_fit

        show_fit(report)


def _shown(show: Callable[..., None]) -> Callable[[FitProgress], None]:
    def report(moment: FitProgress) -> None:
        parts = [f"epoch {moment.epoch}/{moment.epochs}"] if moment.epoch else []
        if moment.loss is not None:
            parts.append(f"loss {moment.loss:.4f}")
        if moment.accuracy is not None:
            parts.append(f"test accuracy {100 * moment.accuracy:.1f} %")
        what = {"train": f"seed {moment.seed}", "evaluate": f"test {moment.seed}", "float": f"float {moment.seed}"}.get(
            moment.stage, moment.stage
        )
        show(what, moment.done, moment.total, "  ".join(parts))

    return report
