# SPDX-License-Identifier: Apache-2.0
"""Dependencies point one way: graph <- ops <- (frontends, train, passes) <- memory <- program <- ... <- cli."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"tinytrain": "tinytrain", "exporters": "tinytrain.exporters", "boards": "tinytrain.boards"}
FOLDERS["runtime_c"] = "tinytrain.runtime_c"

# package -> what it may import; a package always may import itself, and `errors`
MAY_IMPORT = {
    "errors": "",
    "runtime_c": "",
    "boards": "",
    "graph": "",
    "ops": "graph",
    "frontends": "graph ops",
    "quantize": "graph ops",
    "passes": "graph ops",
    "train": "graph ops passes",
    "floating": "graph ops train",
    "memory": "graph ops",
    "program": "graph ops memory",
    "host": "graph ops memory program runtime_c",
    "exporters": "program runtime_c",
    "certificates": "graph ops train floating memory program host",
    "emulate": "boards",
    "data": "graph",
    "augment": "ops",
    "planner": "graph ops frontends quantize passes train memory program host exporters emulate boards",
    "session": "graph ops program host exporters emulate boards data augment planner",
    "learning": "graph floating ops frontends train memory program host data augment planner session",
    "report": "graph ops memory program train planner session emulate boards data",
    "api": "graph frontends quantize train certificates planner session learning emulate boards data augment report",
    "cli": "api certificates graph frontends train planner session learning emulate boards data report",
    "__init__": "api data",
    "__main__": "cli",
}


def modules() -> Iterator[tuple[str, Path]]:
    """(package below tinytrain, file) of every module."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [*package.split("."), *path.relative_to(ROOT / folder).with_suffix("").parts]
            yield parts[1], path


def imports(source: str, of: Path) -> Iterator[tuple[str, int]]:
    """(package below tinytrain, line) of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{of}:{node.lineno} imports relatively"
            names = [node.module or ""]
            if node.module == "tinytrain":
                names = [f"tinytrain.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("tinytrain."):
                yield name.split(".")[1], node.lineno


@pytest.mark.parametrize("package", sorted({package for package, _ in modules()}))
def test_imports_point_one_way(package: str) -> None:
    allowed = {package, "errors", *MAY_IMPORT[package].split()}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports tinytrain.{name}"
        for owner, path in modules()
        if owner == package
        for name, line in imports(path.read_text(), path)
        if name not in allowed
    ]
    assert not wrong, f"tinytrain.{package} may import {sorted(allowed)} alone:\n" + "\n".join(wrong)


def test_the_rules_have_no_cycle() -> None:
    """Whatever the table allows, no package reaches itself through others."""
    edges = {name: set(text.split()) for name, text in MAY_IMPORT.items()}

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        pending = set(edges[name])
        while pending:
            other = pending.pop()
            if other not in found:
                found.add(other)
                pending |= edges[other]
        return found

    assert not [name for name in edges if name in reached(name)]
    assert "ops" not in reached("graph")
    assert "frontends" not in reached("passes")
    assert "train" not in reached("exporters")


def test_the_reader_of_imports_sees_every_form() -> None:
    source = (
        "import tinytrain.ops\ndef f():\n    from tinytrain import train\n    from tinytrain.planner.make import x\n"
    )
    assert [name for name, _ in imports(source, Path("x.py"))] == ["ops", "train", "planner"]


INTRINSICS = {"arm_acle.h", "arm_mve.h", "immintrin.h"}  # the compiler's own, no library behind them


def test_kernels_use_nothing_of_the_c_library_but_stdint_and_string() -> None:
    for path in sorted((ROOT / "runtime_c").rglob("*.[ch]")):
        for line in path.read_text().splitlines():
            if line.startswith("#include <"):
                header = line.removeprefix("#include <").rstrip(">")
                assert header in {"stdint.h", "string.h"} | INTRINSICS, f"{path.relative_to(ROOT)}: {line}"
