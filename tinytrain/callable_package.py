# SPDX-License-Identifier: Apache-2.0
"""Lets a package be called: `tinytrain.plan(...)` and `tinytrain.run(...)` are functions of the public API, and
`tinytrain.plan` and `tinytrain.run` are also the packages that hold everything behind them.

Python sets the attribute `tinytrain.plan` to the package as soon as anything imports it, so a function of that name
could not last. The package passes calls on instead.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package whose call is the function of the same name in `tinytrain.api`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from tinytrain import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(package: str) -> None:
    """Called by the package itself: make_callable(__name__)."""
    sys.modules[package].__class__ = CallablePackage
