# SPDX-License-Identifier: Apache-2.0
"""Texts that tests compare with, in golden/ beside each test. TINYTRAIN_GOLDEN=write makes them anew."""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(test: str, name: str, text: str) -> None:
    """test: the test's __file__; name: of the file in its folder golden/."""
    path = Path(test).parent / "golden" / name
    if os.environ.get("TINYTRAIN_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    want = path.read_text().splitlines()
    got = text.splitlines()
    for index, (a, b) in enumerate(zip(got, want, strict=False)):
        assert a == b, f"{path.name}:{index + 1} differs\n  now     {a}\n  golden  {b}"
    assert len(got) == len(want), f"{path.name} has {len(want)} lines, now {len(got)}"
