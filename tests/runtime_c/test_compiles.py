# SPDX-License-Identifier: Apache-2.0
"""Every source of the runtime compiles without a warning, here and for every core we name."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tinytrain import boards, runtime_c
from tinytrain.boards import all_boards
from tinytrain.host.runtime import compiler

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O2", "-c"]
CORES = {
    "cortex-m0plus": ["-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft"],
    "cortex-m3": ["-mcpu=cortex-m3", "-mthumb", "-mfloat-abi=soft"],
    "cortex-m4": ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"],
    "cortex-m7": ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"],
    "cortex-m33": ["-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=soft"],
    "cortex-m55": ["-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"],
}
ARM = "arm-none-eabi-gcc"
# the folders of kernels that any core compiles; every other one needs a core that is named here, or a host
ANY_CORE = ("portable", "ref")
LONGEST_LINE = 120
NEEDS = {"dsp": ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"), "mve": ("cortex-m55",)}


def variants_of(core: str) -> list[str]:
    return [*ANY_CORE, *(variant for variant, cores in NEEDS.items() if core in cores)]


def arm(core: str) -> list[str]:
    if not shutil.which(ARM):
        pytest.skip(f"needs {ARM}: apt-get install gcc-arm-none-eabi")
    return [ARM, *CORES[core]]


def compile_all(command: list[str], folder: Path, files: list[Path]) -> None:
    result = subprocess.run(
        [*command, *FLAGS, f"-I{runtime_c.INCLUDE}", *map(str, files)], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[:3000]
    assert len(list(folder.glob("*.o"))) == len(files)


def compile_runtime(command: list[str], folder: Path, variants: list[str]) -> None:
    """Twins of a kernel have the same name: every folder's objects for themselves."""
    compile_all(command, folder, sorted(runtime_c.SOURCES.glob("*.c")))
    for variant in variants:
        sources = sorted((runtime_c.KERNELS / variant).glob("*.c"))
        assert sources
        (folder / variant).mkdir()
        compile_all(command, folder / variant, sources)


def test_lines_are_no_longer_than_those_of_python() -> None:
    for folder in (runtime_c.ROOT, Path(boards.__file__).parent, Path(__file__).parents[1]):
        for path in sorted(folder.rglob("*.[ch]")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                assert len(line) <= LONGEST_LINE, f"{path}:{number} has {len(line)} columns"


def test_every_folder_of_kernels_is_compiled_for_something() -> None:
    assert {path.name for path in runtime_c.KERNELS.iterdir()} == {"host", *ANY_CORE, *NEEDS}
    assert {variant for board in all_boards() for variant in board.variants} == {*ANY_CORE, *NEEDS}
    for board in all_boards():
        assert sorted(board.variants) == sorted(variants_of(board.core)), board.name


@pytest.mark.parametrize("processor", ["-march=native", "-march=x86-64", "-march=x86-64-v3"])
def test_the_runtime_compiles_here_without_a_warning(processor: str, tmp_path: Path) -> None:
    if "native" not in processor and platform.machine() != "x86_64":
        pytest.skip("needs an x86-64")
    compile_runtime([compiler(), "-pedantic", processor], tmp_path, ["host", *ANY_CORE])


def test_a_warning_would_be_noticed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("#include <stdint.h>\nint8_t narrow(int32_t x) { return x; }\n")
    with pytest.raises(AssertionError, match="conversion"):
        compile_all([compiler()], tmp_path, [bad])


@pytest.mark.parametrize("core", CORES)
def test_the_runtime_compiles_for_a_core_without_a_warning(core: str, tmp_path: Path) -> None:
    compile_runtime(arm(core), tmp_path, variants_of(core))


@pytest.mark.parametrize(
    "header", sorted(path.relative_to(runtime_c.INCLUDE).as_posix() for path in runtime_c.INCLUDE.rglob("*.h"))
)
def test_every_header_stands_alone(header: str, tmp_path: Path) -> None:
    """Included first and twice, without anything before it; headers of a kind of core by that core's compiler."""
    source = tmp_path / "alone.c"
    source.write_text(f'#include "{header}"\n#include "{header}"\ntypedef int not_empty;\n')
    kind = next((variant for variant in NEEDS if Path(header).name.startswith(variant)), None)
    command = arm(NEEDS[kind][0]) if kind else [compiler()]
    # what a header defines inline may stay unused
    compile_all([*command, "-Wno-unused-function"], tmp_path, [source])
