# SPDX-License-Identifier: Apache-2.0
"""The commands and their options."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinytrain.cli.application import FAILED, Application, print_json
from tinytrain.errors import OutputError, SchemeError, TinytrainError

if TYPE_CHECKING:
    from tinytrain.session import RunProgress

app = typer.Typer(
    cls=Application,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document (docs/json.md) on stdout; the rest on stderr.")
]


class Update(enum.StrEnum):
    """What becomes of updates smaller than one integer step."""

    MASTER = "master"
    STOCHASTIC = "stochastic"
    TRUNCATE = "truncate"


class Schedule(enum.StrEnum):
    COSINE = "cosine"
    CONSTANT = "constant"
    STEP = "step"


def example(arguments: str) -> str:
    """The last lines of a command's help."""
    return f"Example:\n\n[bold]tinytrain {arguments}[/]"


def main() -> None:
    """The `tinytrain` program."""
    app(prog_name="tinytrain")


def _version(wanted: bool) -> None:
    if wanted:
        import tinytrain

        print(f"tinytrain {tinytrain.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train neural networks on microcontrollers, inside a memory budget known to the byte.

    [bold]inspect[/] a model, [bold]plan[/] its training for a board, [bold]export[/] firmware,
    [bold]run[/] it on the emulated board; [bold]fit[/] tells what a scheme learns.
    """


@app.command(epilog=example("inspect model.onnx"))
def inspect(
    model: Annotated[Path, typer.Argument(help="An int8 .tflite file, or an ONNX file with QDQ nodes.")],
    text: Annotated[bool, typer.Option("--text", help="Print the graph as text.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a model consists of: operators, shapes, MACs, bytes."""
    from tinytrain.frontends import load_model
    from tinytrain.graph import to_text
    from tinytrain.report.model import model_figures

    graph = load_model(model)
    figures = model_figures(graph)
    if as_json:
        print_json({**figures.as_dict(), **({"text": to_text(graph)} if text else {})})
    elif text:
        sys.stdout.write(to_text(graph))
    else:
        from tinytrain.cli.tables import show_model

        show_model(figures)


@app.command(epilog=example("plan net.onnx --data pets.npz --board stm32f746 --sram 256K -o plan.json"))
def plan(
    model: Annotated[Path, typer.Argument(help="An int8 .tflite file, or an ONNX file with QDQ nodes.")],
    board: Annotated[str, typer.Option(help="The board; `tinytrain boards` lists them.")],
    data: Annotated[Path | None, typer.Option(help="An .npz file, or a folder of class folders of images.")] = None,
    sram: Annotated[str | None, typer.Option(help="SRAM budget, bytes or 256K: less than the board has.")] = None,
    flash: Annotated[str | None, typer.Option(help="Flash budget, bytes or 1M.")] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="A scheme file, 'head' or 'all'. Without it the planner chooses, and needs --data.", metavar="FILE"
        ),
    ] = None,
    scheme_key: Annotated[
        str | None,
        typer.Option(help="One scheme of a file that holds several, such as mcunet-5fps/49kb.", metavar="KEY"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="A new head of so many outputs. By default the data decides.")
    ] = None,
    update: Annotated[
        Update,
        typer.Option(help="Below a step: keep fractional bits beside it, round at random, or truncate (to compare)."),
    ] = Update.MASTER,
    accumulate: Annotated[bool, typer.Option("--accumulate", help="Make room to train in batches.")] = False,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, binary_cross_entropy or mean_squared_error, or a JSON object (docs/json.md).",
            show_default="the scheme's, or cross_entropy",
            metavar="LOSS",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan here.", metavar="PLAN.json")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
    as_json: Json = False,
) -> None:
    """Choose what to train under a memory budget, and account for every byte."""
    if output is not None:
        _check_output(output, force)
    from tinytrain import api
    from tinytrain.cli.live import live

    with live() as show:
        made = api.plan(
            model, board=board, data=data, sram=sram, flash=flash, scheme=scheme, scheme_key=scheme_key,
            classes=classes, update=update.value, accumulate=accumulate, loss=kind_or_json("--loss", loss), seed=seed,
            progress=show,
        )  # fmt: skip
    if output is not None:
        made.save(output)
    if as_json:
        print_json({**made.as_dict(), "output": str(output) if output else None})
    else:
        from tinytrain.cli.tables import show_plan

        show_plan(made, str(output) if output else None)


def kind_or_json(option: str, text: str | None) -> Any:
    """Of a loss or an optimizer: a kind, or the object that a JSON text holds. Errors: SchemeError."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise SchemeError(f"{option} {text} is no JSON", why=str(error)) from None


@app.command(epilog=example("export plan.json -o firmware/"))
def export(
    plan: Annotated[Path, typer.Argument(help="What `tinytrain plan -o` wrote.", metavar="PLAN.json")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder that does not exist yet.", metavar="FOLDER")],
    as_json: Json = False,
) -> None:
    """Write a firmware folder: C tables, the runtime sources they need, and the board's start-up code."""
    from tinytrain import api
    from tinytrain.report.export import export_figures

    facts = export_figures(api.export(plan, output))
    if as_json:
        print_json(facts)
    else:
        from tinytrain.cli.tables import show_export

        show_export(facts)


@app.command(epilog=example("run firmware/ --data pets.npz --epochs 3"))
def run(
    firmware: Annotated[Path, typer.Argument(help="What `tinytrain export` wrote.", metavar="FOLDER")],
    data: Annotated[Path, typer.Option(help="An .npz file, or a folder of class folders of images.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training samples.", show_default="3")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps, instead of whole epochs.")] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Samples per update; more than 1 needs a plan made with --accumulate.")
    ] = 1,
    lr: Annotated[
        float | None,
        typer.Option(min=0.0, help="Learning rate of a batch's mean gradient.", show_default="0.005 x batch"),
    ] = None,
    schedule: Annotated[Schedule, typer.Option(help="With warm-up, or constant.")] = Schedule.COSINE,
    seed: Annotated[int, typer.Option(help="Of the order of samples, of mirroring and of stochastic rounding.")] = 0,
    evaluate: Annotated[
        int | None,
        typer.Option("--eval", min=0, help="Test samples used for accuracy.", show_default="all", metavar="N"),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror training images at random.")] = False,
    host: Annotated[bool, typer.Option("--host/--no-host", help="Repeat every step on the host, and compare.")] = True,
    count: Annotated[
        bool, typer.Option("--count/--no-count", help="Count instructions, in a second short run.")
    ] = True,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the instructions of a step go, by kernel and by layer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train on the emulated board, repeat every step on the host, and compare to the bit."""
    from tinytrain import api
    from tinytrain.cli.live import live

    with live() as show:
        report = api.run(
            firmware, data, epochs=epochs, steps=steps, batch=batch, lr=lr, seed=seed, eval_count=evaluate, host=host,
            count=count, schedule=schedule.value, flip=flip, profile=profile, progress=_shown(show),
        )  # fmt: skip
    if as_json:
        print_json(report.as_dict())
    else:
        from tinytrain.cli.tables import show_run

        show_run(report)
        if report.profile is not None:
            from tinytrain.cli.profile import show_profile
            from tinytrain.cli.tables import console

            show_profile(console(), report.profile)
    if report.identical is False:
        error = TinytrainError(
            "board and host do not agree", where=report.difference or "", why="one of them computes something else",
            fix="was the folder changed after its export? If not, please report it with the plan",
        )  # fmt: skip
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(FAILED)


@app.command(epilog=example("certify model.onnx --scheme all"))
def certify(
    model: Annotated[Path, typer.Argument(help="An int8 .tflite file, or an ONNX file with QDQ nodes.")],
    data: Annotated[
        Path | None, typer.Option(help="Samples of the model's own classes.", show_default="random samples")
    ] = None,
    scheme: Annotated[str, typer.Option(help="A scheme file, a plan.json, 'head' or 'all'.", metavar="FILE")] = "all",
    scheme_key: Annotated[
        str | None, typer.Option(help="One scheme of a file that holds several.", metavar="KEY")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples whose gradients are averaged.")] = 8,
    lr: Annotated[
        float | None, typer.Option(min=0.0, help="Learning rate of the loss curve.", show_default="from the gradients")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=-1.0, max=1.0, help="The least cosine of a tensor, given the same activations.")
    ] = 0.99,
    seed: Annotated[int, typer.Option(help="Of the choice of samples.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare integer training with torch: every trained tensor's gradient, and a loss curve. Needs torch."""
    from tinytrain import api
    from tinytrain.cli.live import live

    with live() as show:
        certificate = api.certify(
            model, scheme=scheme, scheme_key=scheme_key, data=data, samples=samples, rate=lr, seed=seed, progress=show
        )
    if as_json:
        print_json({**certificate.as_dict(), "threshold": threshold, "holds": certificate.holds(threshold)})
    else:
        from tinytrain.cli.tables import show_certificate

        show_certificate(certificate, threshold)
    if not certificate.holds(threshold):
        worst = certificate.worst
        print(f"error: the cosine of '{worst.name}' is {worst.cosine_same:.6f}, below {threshold:g}", file=sys.stderr)
        raise typer.Exit(FAILED)


@app.command(epilog=example("boards"))
def boards(as_json: Json = False) -> None:
    """List the boards that can be planned for and emulated."""
    from tinytrain.boards import all_boards

    found = all_boards()
    if as_json:
        print_json({"boards": [_board(board.as_dict()) for board in found]})
    else:
        from tinytrain.cli.tables import show_boards

        show_boards(found)


def _board(fields: dict[str, object]) -> dict[str, object]:
    shown = ("name", "description", "core", "core_hz", "machine", "mpu", "clock_hz", "sram", "flash")
    return {key: fields[key] for key in shown}


def _check_output(path: Path, force: bool) -> None:
    """Before the work, not after it."""
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder", fix="-o plan.json")
    if path.exists() and not force:
        raise OutputError(f"'{path}' exists already", fix="choose another name with -o, or overwrite it with --force")
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder '{path.parent}'", fix=f"mkdir -p {path.parent}")


def _shown(show: Callable[..., None]) -> Callable[[RunProgress], None]:
    def report(moment: RunProgress) -> None:
        parts = [] if moment.epoch is None else [f"epoch {moment.epoch}/{moment.epochs}"]
        if moment.loss is not None:
            parts.append(f"loss {moment.loss:.4f}")
        if moment.accuracy is not None:
            parts.append(f"accuracy {100 * moment.accuracy:.1f} %")
        show(moment.stage, moment.done, moment.total, "  ".join(parts))

    return report
