# SPDX-License-Identifier: Apache-2.0
"""Export to C: a folder with const tables, the runtime sources they need, and the board's start-up code."""

from tinytrain.exporters.c.firmware import LIBRARY_FILES, write_firmware
from tinytrain.exporters.c.model import model_header, model_source

__all__ = ["LIBRARY_FILES", "model_header", "model_source", "write_firmware"]
