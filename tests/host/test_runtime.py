# SPDX-License-Identifier: Apache-2.0
"""The runtime library of this process: compiled once per source state, with a clear word where it cannot be."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

import pytest

from tinytrain.errors import TinytrainError, ToolMissing
from tinytrain.host.runtime import build, cache_folder, compiler, declarations, runtime

# the package has a function of the module's name
runtime_module = importlib.import_module("tinytrain.host.runtime")
QUICK = ("-std=c99", "-O0", "-fPIC", "-shared")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINYTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_library_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build(QUICK)
    assert library.parent == cache == cache_folder()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("compiled again"))
    assert build(QUICK) == library


def test_another_source_state_is_another_library(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = build(QUICK)
    extra = tmp_path / "extra.c"
    extra.write_text("int tt_extra;\n")
    real = runtime_module.sources
    monkeypatch.setattr(runtime_module, "sources", lambda variants: [*real(variants), extra])
    second = build(QUICK)
    extra.write_text("int tt_extra = 1;\n")
    assert len({first, second, build(QUICK)}) == 3
    assert sorted(cache.iterdir()) == sorted([first, second, build(QUICK)])  # nothing half-made is left


def test_another_processor_gets_a_library_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder may be shared between machines, and the library uses all instructions of the one it is for."""
    monkeypatch.setattr(runtime_module, "FLAGS", QUICK)
    here = build()
    monkeypatch.setattr(runtime_module, "instruction_set", lambda: "#define __ANOTHER__ 1")
    there = build()
    assert there != here
    assert sorted(cache.iterdir()) == sorted([here, there])


def test_a_compiler_that_knows_no_native_processor_builds_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "FLAGS", QUICK)
    monkeypatch.setattr(runtime_module, "NATIVE", "-march=no-such-processor")
    assert runtime_module.instruction_set() == ""
    assert build() == build(QUICK)


def test_sources_that_do_not_compile_are_reported_and_leave_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int x = ;\n")
    monkeypatch.setattr(runtime_module, "sources", lambda variants: [broken])
    with pytest.raises(TinytrainError, match="does not compile") as caught:
        build(QUICK)
    assert "broken.c" in caught.value.why
    assert not list(cache.iterdir())


def test_a_machine_without_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module.shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing) as caught:
        compiler()
    assert "apt-get install gcc" in caught.value.fix


def test_the_users_compiler_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc-special")
    monkeypatch.setattr(runtime_module.shutil, "which", lambda name: f"/bin/{name}")
    assert compiler() == "gcc-special"


def test_declarations_are_plain_c() -> None:
    text = declarations()
    assert "#" not in text and "//" not in text and "typedef struct tt_row" in text


def test_the_runtime_is_bound_once() -> None:
    bound = runtime()
    assert bound is runtime()
    assert bound.ffi.sizeof("tt_row") > 0 and bound.lib.tt_run
