# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0


class Show(Protocol):
    """show(what, done, total, note): total 0 where nobody knows it."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def live() -> Iterator[Show]:
    """with live() as show: show("train", 12, 40, "loss 0.31")"""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar per kind of work; a finished one that starts again gets a new bar."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.open: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        if what not in self.open:
            self.open[what] = self.bars.add_task(what, total=total or None, note=note)
        self.bars.update(self.open[what], completed=done, total=total or None, note=note)
        if total and done >= total:
            del self.open[what]


class _Lines:
    """Plain text: the first and the last of each kind of work, and one line every few seconds between them."""

    def __init__(self) -> None:
        self.what, self.when = "", 0.0

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        finished = total > 0 and done >= total
        if what == self.what and not finished and now - self.when < SECONDS_BETWEEN_LINES:
            return
        self.what, self.when = ("" if finished else what), now
        count = f"{done}/{total}" if total else str(done)
        print(f"{what:<12} {count:>11}  {note}".rstrip(), file=sys.stderr, flush=True)
