# SPDX-License-Identifier: Apache-2.0
"""The exported C folder: what it needs and no more, const tables, and a firmware for every board."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests import nets
from tests.exported import WARNINGS, compile_c, write_sources
from tests.training import machine_of
from tinytrain import runtime_c
from tinytrain.boards import Board, all_boards
from tinytrain.emulate import build, makefile, render, sections, stack_bound
from tinytrain.exporters.c import model_source, write_firmware
from tinytrain.exporters.c.model import identity
from tinytrain.graph import Graph
from tinytrain.program import Program, Space
from tinytrain.train import Scheme, all_weights, training_graph

MODEL_FILES = {"tinytrain_model.h", "tinytrain_model.c"}
RUNTIME = {f"tinytrain/src/{name}.c" for name in ("executor", "model", "schedule", "store")}


def program_of(forward: Graph, scheme: Scheme) -> Program:
    return machine_of(training_graph(forward, scheme)).program


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("seed", range(12))
def test_the_folder_holds_the_kernels_it_needs_and_no_others(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    forward = nets.random_net(rng)
    program = program_of(forward, nets.random_scheme(rng, forward))
    variants = [board.variants for board in all_boards()][seed % len(all_boards())]
    write_firmware(program, tmp_path, "test", variants)
    found = files(tmp_path)
    sources = [runtime_c.kernel_source(kernel, variants) for kernel in program.kernels]
    kernels = {f"tinytrain/{path.relative_to(runtime_c.ROOT).as_posix()}" for path in sources}
    assert {name for name in found if name.endswith(".c")} == {"tinytrain_model.c", *RUNTIME, *kernels}
    # every header is included by something, and everything included is there
    included = set()
    for name in found:
        for header in re.findall(r'#include "([^"]+)"', (tmp_path / name).read_text()):
            assert header == "tinytrain_model.h" or f"tinytrain/include/{header}" in found, f"{name} includes {header}"
            included.add(f"tinytrain/include/{header}")
    assert {name for name in found if name.endswith(".h")} - MODEL_FILES <= included
    for name in found - MODEL_FILES:
        assert (tmp_path / name).read_bytes() == (runtime_c.ROOT / name.removeprefix("tinytrain/")).read_bytes()


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runtime with twins of its own: tt_conv2d_s8 of every kind, tt_mean_s8 of one."""
    root = tmp_path / "runtime"
    shutil.copytree(runtime_c.ROOT, root, ignore=shutil.ignore_patterns("dsp", "mve", "portable", "host"))
    folder = root / "src" / "kernels"
    for variant, kernel in [*((v, "tt_conv2d_s8") for v in ("host", "portable", "dsp", "mve")), ("dsp", "tt_mean_s8")]:
        (folder / variant).mkdir(exist_ok=True)
        (root / "include" / "tinytrain" / f"{variant}.h").write_text(f"// for {variant}\n")
        (folder / variant / f"{kernel}.c").write_text(f'#include "tinytrain/{variant}.h"\n// the {variant} twin\n')
    for name, path in (("ROOT", root), ("INCLUDE", root / "include"), ("SOURCES", root / "src"), ("KERNELS", folder)):
        monkeypatch.setattr(runtime_c, name, path)
    return root


def test_a_kernel_source_is_the_first_variant_that_has_it(twins: Path) -> None:
    folder = twins / "src" / "kernels"
    assert runtime_c.kernel_source("tt_conv2d_s8") == folder / "ref" / "tt_conv2d_s8.c"
    assert runtime_c.kernel_source("tt_conv2d_s8", ("mve", "dsp", "ref")) == folder / "mve" / "tt_conv2d_s8.c"
    assert runtime_c.kernel_source("tt_mean_s8", ("mve", "dsp", "ref")) == folder / "dsp" / "tt_mean_s8.c"
    assert runtime_c.kernel_source("tt_mean_s8", ("portable", "ref")) == folder / "ref" / "tt_mean_s8.c"
    assert "tt_mean_s8" in runtime_c.kernels()


EXPECTED = {  # core: (the twin of tt_conv2d_s8, the twin of tt_mean_s8)
    "cortex-m0plus": ("portable", "ref"), "cortex-m3": ("portable", "ref"), "cortex-m4": ("dsp", "dsp"),
    "cortex-m7": ("dsp", "dsp"), "cortex-m33": ("dsp", "dsp"), "cortex-m55": ("mve", "dsp"),
}  # fmt: skip


@pytest.mark.parametrize("board", all_boards(), ids=lambda board: board.name)
def test_a_folder_holds_the_twins_of_its_board_and_no_other(board: Board, twins: Path, tmp_path: Path) -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.mean("m", net.conv("c", net.input((4, 4, 3)), 4))
    program = program_of(net.done(net.dense("head", y, 3)), Scheme())
    (tmp_path / "firmware").mkdir()
    write_firmware(program, tmp_path / "firmware", "test", board.variants)
    conv, mean = EXPECTED[board.core]
    found = {path.relative_to(tmp_path / "firmware" / "tinytrain" / "src" / "kernels").as_posix()
             for path in (tmp_path / "firmware" / "tinytrain" / "src" / "kernels").rglob("*.c")}  # fmt: skip
    assert {f"{conv}/tt_conv2d_s8.c", f"{mean}/tt_mean_s8.c"} <= found
    assert sorted(Path(name).stem for name in found) == program.kernels, "every kernel once"
    headers = {path.stem for path in (tmp_path / "firmware" / "tinytrain" / "include" / "tinytrain").glob("*.h")}
    assert headers & {"host", "portable", "dsp", "mve"} == {conv, mean} - {"ref"}, "headers of its own twins alone"


def test_a_kernel_more_or_less_makes_a_file_more_or_less(residual: Graph, tmp_path: Path) -> None:
    """Training the head alone needs no gradient kernels."""
    counts = []
    for name, scheme in (("head", Scheme()), ("all", all_weights(residual))):
        (tmp_path / name).mkdir()
        write_firmware(program_of(residual, scheme), tmp_path / name, "test")
        counts.append({Path(path).stem for path in files(tmp_path / name) if "src/kernels" in path})
    assert counts[0] < counts[1]
    assert not [path for path in counts[0] if "input_gradient" in path or "mask" in path]


def test_only_the_five_spaces_are_in_ram(residual: Graph, tmp_path: Path) -> None:
    """Everything else is const: no table of the model is copied to SRAM at start-up."""
    program = program_of(residual, all_weights(residual).but(accumulate=True))
    sources = write_sources(program, tmp_path)
    model = [path for path in sources if path.endswith("tinytrain_model.c")]
    compile_c(tmp_path, model, "model.o", "-c", "-O2", *WARNINGS)
    listing = subprocess.run(["nm", "-S", str(tmp_path / "model.o")], capture_output=True, text=True, check=True).stdout
    ram = {}
    for line in listing.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[2] in "bBdD":
            ram[parts[3]] = int(parts[1], 16)
    spaces = {f"tt_{space}": size for space, size in program.sizes.items() if space is not Space.CONSTANTS}
    writable = {name: size for name, size in ram.items() if name.startswith("tt_")}
    assert writable == spaces
    source = (tmp_path / "tinytrain_model.c").read_text()
    variables = [line for line in source.splitlines() if re.match(r"[a-z][^(]*?(\[\d*\]| = )", line)]
    assert len(variables) > 50
    for line in variables:
        assert line.startswith(("static const ", "const ", "uint8_t tt_")), line


def test_the_same_program_is_the_same_text(residual: Graph) -> None:
    made = [model_source(program_of(residual, all_weights(residual))) for _ in range(2)]
    assert made[0] == made[1]


def test_equal_arguments_are_defined_once(residual: Graph) -> None:
    source = model_source(program_of(residual, all_weights(residual)))
    bodies = re.findall(r"^static const tt_\w+ (?:\w+)(?:\[\])? = (.*);$", source, re.MULTILINE)
    kinds = re.findall(r"^static const (tt_\w+) \w+(?:\[\])? = .*;$", source, re.MULTILINE)
    assert len(set(zip(kinds, bodies))) == len(bodies) > 20


def test_the_smallest_integer_is_written_so_that_c_reads_it(chain: Graph, tmp_path: Path) -> None:
    """-2147483648 is not an int in C: it compiles with warnings, or as something else."""
    chain.tensors["middle.b"] = chain["middle.b"].but(data=np.full(6, -(2**31), np.int32))
    program = program_of(chain, Scheme())
    sources = write_sources(program, tmp_path)
    assert "INT32_MIN," in (tmp_path / "tinytrain_model.c").read_text()
    compile_c(tmp_path, sources, "model.so", "-fPIC", "-shared", "-pedantic", *WARNINGS)


def test_identity_tells_models_apart_and_knows_its_own(residual: Graph) -> None:
    def of(forward: Graph, scheme: Scheme) -> int:
        return identity(program_of(forward, scheme))

    whole = all_weights(residual)
    same = of(residual, whole)
    assert same == of(residual, whole)
    others = [
        of(nets.residual(1), whole), of(residual, whole.but(classes=5)), of(residual, whole.but(update="stochastic")),
        of(residual, whole.but(accumulate=True)), of(residual, Scheme()),
    ]  # fmt: skip
    assert len({same, *others}) == 6


# --- boards ---

BOARDS = {board.name: board for board in all_boards()}
CROSS = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc"), reason="needs arm-none-eabi-gcc: apt-get install gcc-arm-none-eabi"
)


@pytest.mark.boards
@CROSS
@pytest.mark.parametrize("name", BOARDS)
def test_the_folder_builds_for_every_board(name: str, residual: Graph, tmp_path: Path) -> None:
    """With one `make`, without warnings, and its spaces are linked byte for byte."""
    program = program_of(residual, all_weights(residual).but(update="stochastic", accumulate=True))
    write_firmware(program, tmp_path, name)
    render(BOARDS[name], 4096, tmp_path)
    (tmp_path / "Makefile").write_text(makefile(BOARDS[name]))
    elf = build(tmp_path)
    assert stack_bound(elf).main < 2048
    sizes = sections(elf)
    spaces = sum(size for space, size in program.sizes.items() if space is not Space.CONSTANTS)
    assert 0 <= sizes.data + sizes.bss - spaces < 128
    symbols = subprocess.run(["arm-none-eabi-nm", str(elf)], capture_output=True, text=True, check=True).stdout
    for kernel in program.kernels:
        assert f" T {kernel}\n" in symbols
    # no C library but what libgcc has
    for name_ in ("malloc", "abort", "printf", "exit"):
        assert not re.search(rf" [TtU] _*{name_}\b", symbols)


@pytest.mark.boards
@CROSS
def test_a_warning_stops_the_build(chain: Graph, tmp_path: Path) -> None:
    from tinytrain.errors import EmulationError

    board = BOARDS["mps2-an386"]
    write_firmware(program_of(chain, Scheme()), tmp_path, "test")
    render(board, 1024, tmp_path)
    (tmp_path / "Makefile").write_text(makefile(board))
    (tmp_path / "tinytrain" / "src" / "bad.c").write_text(
        "#include <stdint.h>\nint8_t narrow(int32_t x) { return x; }\n"
    )
    with pytest.raises(EmulationError, match="does not build"):
        build(tmp_path)
