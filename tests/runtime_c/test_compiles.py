# SPDX-License-Identifier: Apache-2.0
"""Every source of the runtime compiles without a warning, here and for every core we name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tinytrain import runtime_c
from tinytrain.host.runtime import compiler

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O2", "-c"]
CORES = {
    "cortex-m0plus": ["-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft"],
    "cortex-m4": ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"],
    "cortex-m7": ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-d16", "-mfloat-abi=hard"],
    "cortex-m55": ["-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"],
}
ARM = "arm-none-eabi-gcc"


def sources() -> list[str]:
    found = sorted(runtime_c.SOURCES.rglob("*.c"))
    assert len(found) > 30
    return [str(path) for path in found]


def compile_all(command: list[str], folder: Path, files: list[str]) -> None:
    result = subprocess.run(
        [*command, *FLAGS, f"-I{runtime_c.INCLUDE}", *files], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[:3000]
    assert len(list(folder.glob("*.o"))) == len(files)


def test_the_runtime_compiles_here_without_a_warning(tmp_path: Path) -> None:
    compile_all([compiler(), "-pedantic"], tmp_path, sources())


def test_a_warning_would_be_noticed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.c"
    bad.write_text("#include <stdint.h>\nint8_t narrow(int32_t x) { return x; }\n")
    with pytest.raises(AssertionError, match="conversion"):
        compile_all([compiler()], tmp_path, [str(bad)])


@pytest.mark.parametrize("core", CORES)
def test_the_runtime_compiles_for_a_core_without_a_warning(core: str, tmp_path: Path) -> None:
    if not shutil.which(ARM):
        pytest.skip(f"needs {ARM}: apt-get install gcc-arm-none-eabi")
    compile_all([ARM, *CORES[core]], tmp_path, sources())


@pytest.mark.parametrize(
    "header", sorted(path.relative_to(runtime_c.INCLUDE).as_posix() for path in runtime_c.INCLUDE.rglob("*.h"))
)
def test_every_header_stands_alone(header: str, tmp_path: Path) -> None:
    """Included first and twice, without anything before it."""
    source = tmp_path / "alone.c"
    source.write_text(f'#include "{header}"\n#include "{header}"\ntypedef int not_empty;\n')
    # what a header defines inline may stay unused
    compile_all([compiler(), "-Wno-unused-function"], tmp_path, [str(source)])
