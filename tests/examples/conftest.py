# SPDX-License-Identifier: Apache-2.0
"""The examples are scripts that import one another by name."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "personalize"))
