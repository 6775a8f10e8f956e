# SPDX-License-Identifier: Apache-2.0
"""How a command ends: results on stdout, errors as one message on stderr, an exit code, and never a stack trace.

Exit codes: 0 done; 1 done, but board and host disagree, or a bug; 2 refused; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from tinytrain.errors import TinytrainError

# typer carries a copy of click or uses an installed one, depending on its version: its own exceptions know which
_UsageError: Any = typer.BadParameter.__base__
_ClickException: Any = _UsageError.__base__

INTERRUPTED, FAILED = 130, 1


class Interrupted(Exception):
    """Ctrl-C, and where it stopped the command."""


class Application(TyperGroup):
    """The group of all commands."""

    def main(self, args: Sequence[str] | None = None, *positional: Any, **options: Any) -> NoReturn:
        """Run one command and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        as_json, where = "--json" in arguments, ""
        try:
            result = super().main(arguments, *positional, **{**options, "standalone_mode": False})
            code = result if isinstance(result, int) else 0
        except TinytrainError as error:
            code = show_error(error, as_json)
        except _ClickException as error:
            # without any argument typer has printed the help already
            code = error.exit_code if not arguments else show_error(_usage(error), as_json)
        except Interrupted as stop:
            code, where = INTERRUPTED, str(stop)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except Exception as error:
            if os.environ.get("TINYTRAIN_DEBUG"):
                raise
            show_error(_bug(error), as_json)
            code = FAILED
        if code == INTERRUPTED:
            interrupted = TinytrainError("interrupted", where=where, why="Ctrl-C; nothing half-written was left behind")
            show_error(interrupted, as_json)
        sys.exit(code)


def show_error(error: TinytrainError, as_json: bool) -> int:
    """The message on stderr and, with --json, as JSON on stdout."""
    first, *rest = str(error).splitlines() or [""]
    label = typer.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
    print("\n".join([f"{label} {first}", *rest]), file=sys.stderr)
    if as_json:
        print_json(error.as_dict())
    return error.exit_code


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document of a command."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _usage(error: Any) -> TinytrainError:
    """What typer says about wrong arguments, in our form."""
    message = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tinytrain"
    return TinytrainError(message[:1].lower() + message[1:], fix=f"{command} --help")


def _bug(error: Exception) -> TinytrainError:
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return TinytrainError(
        f"something that tinytrain did not foresee: {what}",
        why="this is a bug in tinytrain",
        fix="please report it with the output of the same command under TINYTRAIN_DEBUG=1",
    )
