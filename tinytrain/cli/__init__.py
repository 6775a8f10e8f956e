# SPDX-License-Identifier: Apache-2.0
"""The command line. `commands` holds what the user sees; everything heavy is imported when a command runs."""

from tinytrain.cli import fit  # registers its command
from tinytrain.cli.commands import app, main

__all__ = ["app", "fit", "main"]
