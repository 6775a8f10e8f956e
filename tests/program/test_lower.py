# SPDX-License-Identifier: Apache-2.0
"""Lowering gives every tensor an address and every node a complete kernel call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import nets
from tinytrain import runtime_c
from tinytrain.boards import all_boards
from tinytrain.graph import DTYPES, Graph, Phase, Role
from tinytrain.host import runtime
from tinytrain.memory import lay_out
from tinytrain.ops import lookup
from tinytrain.program import Pointer, Program, Row, Space, StructArray, lower
from tinytrain.train import Scheme, all_weights, training_graph


def program_of(graph: Graph) -> Program:
    return lower(graph, lay_out(graph))


def random_programs() -> Iterator[tuple[Graph, Program]]:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        forward = nets.random_net(rng)
        graph = training_graph(forward, nets.random_scheme(rng, forward))
        yield graph, program_of(graph)


def structs(struct: str, args: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(C struct, its arguments): the row's own, and every struct inside it or pointed to."""
    yield struct, args
    fields = dict(runtime().ffi.typeof(struct).fields)
    for name, value in args.items():
        if isinstance(value, StructArray):
            for item in value.items:
                yield from structs(value.struct, item)
        elif isinstance(value, Mapping):
            yield from structs(fields[name].type.cname, value)


def test_every_kernel_call_sets_every_field_of_its_struct_and_no_other() -> None:
    """cffi refuses unknown fields, but would leave forgotten ones at zero."""
    seen = set()
    for _, program in random_programs():
        for row in program.rows:
            for struct, args in structs(f"{row.kernel}_args", row.args):
                fields = [name for name, _ in runtime().ffi.typeof(struct).fields]
                assert sorted(args) == sorted(fields), f"{row.node}: {struct}"
            seen.add(row.kernel)
    assert len(seen) > 25, sorted(seen)


def test_every_integer_argument_fits_its_field() -> None:
    for _, program in random_programs():
        for row in program.rows:
            for struct, args in structs(f"{row.kernel}_args", row.args):
                for name, field in runtime().ffi.typeof(struct).fields:
                    if isinstance(args[name], int):
                        low, high = (0, 2**32 - 1) if field.type.cname.startswith("u") else (-(2**31), 2**31 - 1)
                        assert low <= args[name] <= high, f"{row.node}: {name} = {args[name]}"


def pointers(row: Row) -> Iterator[tuple[str, Pointer]]:
    for struct, args in structs(f"{row.kernel}_args", row.args):
        fields = dict(runtime().ffi.typeof(struct).fields)
        for name, value in args.items():
            if isinstance(value, Pointer):
                yield fields[name].type.cname, value


def test_addresses_are_inside_their_space_and_aligned_for_their_type() -> None:
    sizes = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "void": 4}  # void: by mode, at most int32
    for _, program in random_programs():
        for row in program.rows:
            for c_type, pointer in pointers(row):
                if pointer.location is None:
                    continue
                space, offset = pointer.location.space, pointer.location.offset
                if space is Space.CONSTANTS:
                    assert offset < len(program.constants)
                    continue
                assert 0 <= offset < program.sizes[space], f"{row.node}: {c_type} at {space}[{offset}]"
                base = c_type.replace("const", "").replace("*", "").strip()
                assert offset % sizes.get(base, 4) == 0, f"{row.node}: {c_type} at {space}[{offset}]"


def test_persistent_tensors_do_not_overlap_and_start_at_their_values() -> None:
    for graph, program in random_programs():
        used: dict[tuple[Space, int], str] = {}
        for tensor in graph.tensors.values():
            if not tensor.role.persistent or tensor.alias_of is not None:
                continue
            location = program.locations[tensor.name]
            assert location.offset % (DTYPES[tensor.dtype] // 8) == 0
            for byte in range(location.offset, location.offset + tensor.nbytes):
                assert used.setdefault((location.space, byte), tensor.name) == tensor.name
            image = program.images[location.space][location.offset : location.offset + tensor.nbytes]
            want = np.zeros(tensor.shape, tensor.dtype) if tensor.data is None else tensor.data
            assert image.tobytes() == want.tobytes(), tensor.name


def test_each_role_has_a_space_of_its_own(residual: Graph) -> None:
    graph = training_graph(residual, all_weights(residual).but(accumulate=True))
    program = program_of(graph)
    spaces = {Role.PARAMETER: "parameters", Role.MASTER: "masters", Role.OPTIMIZER: "optimizer", Role.STATE: "state"}
    seen = set()
    for tensor in graph.tensors.values():
        if tensor.role.persistent and tensor.alias_of is None:
            assert program.locations[tensor.name].space == spaces[tensor.role], tensor.name
            seen.add(tensor.role)
    assert len(seen) == 4


def test_persistent_spaces_are_whole_multiples_of_eight_bytes() -> None:
    for graph, program in random_programs():
        assert program.sizes[Space.ARENA] == lay_out(graph).arena
        assert all(size % 8 == 0 for space, size in program.sizes.items() if space is not Space.ARENA)
        assert {space: image.nbytes for space, image in program.images.items()} == {
            space: program.sizes[space] for space in program.images
        }


def test_equal_constants_are_stored_once() -> None:
    for _, program in random_programs():
        contents = [(str(array.data.dtype), array.data.tobytes()) for array in program.constants]
        assert len(contents) == len(set(contents))


def test_rows_follow_the_graph_and_views_have_none(residual: Graph) -> None:
    net = nets.Net(np.random.default_rng(0))
    y = net.conv("c", net.input((2, 2, 3)), 4)
    graph = training_graph(net.done(net.dense("head", net.reshape("flat", y), 3)), Scheme())
    program = program_of(graph)
    assert [row.node for row in program.rows] == [n.name for n in graph.nodes if not lookup(n.op).view]
    assert "flat" not in {row.node for row in program.rows}
    graph = training_graph(residual, all_weights(residual))
    for row, node in zip(program_of(graph).rows, graph.nodes, strict=True):
        assert (row.phase, row.origin) == (node.phase, node.origin or node.name)
    assert {row.origin for row in program_of(graph).rows if row.phase is Phase.UPDATE} <= {
        n.name for n in residual.nodes
    }


def test_a_step_does_as_many_macs_as_its_layers_have(chain: Graph) -> None:
    macs = {row.node: row.macs for row in program_of(training_graph(chain, all_weights(chain))).rows}
    assert macs["stem"] == 3 * 3 * 8 * 27
    assert macs["middle"] == 3 * 3 * 6 * 8
    assert macs["middle.gx"] == macs["middle"] == macs["middle.update"]
    assert "stem.gx" not in macs  # nothing trains before it


def test_an_argument_of_a_strange_type_is_refused(chain: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = training_graph(chain, Scheme())
    layout = lay_out(graph)
    conv = type(lookup("conv2d"))
    real = conv.lower
    monkeypatch.setattr(conv, "lower", lambda *a: (call := real(*a), call.args.update(x="a text"))[0])
    with pytest.raises(TypeError, match="stem: argument x is a str"):
        lower(graph, layout)


def variant_files() -> list[Path]:
    """Every kernel's sources, the reference's and its twins'."""
    return sorted(runtime_c.KERNELS.glob("*/*.c"))


def test_every_kernel_has_a_reference_and_every_twin_is_of_a_kernel() -> None:
    declared = set()
    for header in (runtime_c.INCLUDE / "tinytrain" / "kernels").glob("*.h"):
        for line in header.read_text().splitlines():
            if line.startswith("void tt_"):
                declared.add(line.removeprefix("void ").split("(")[0])
    assert set(runtime_c.kernels()) == declared
    assert {path.stem for path in variant_files()} == declared
    known = {variant for board in all_boards() for variant in board.variants} | {"host"}
    assert {path.parent.name for path in variant_files()} <= known, "no processor takes the kernels of some folder"


@pytest.mark.parametrize("path", variant_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_kernel_file_defines_the_kernel_it_is_named_after(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// SPDX-License-Identifier: Apache-2.0\n")
    assert f"void {path.stem}(const void *args) {{" in text
    exported = [line for line in text.splitlines() if line.startswith(("void ", "int"))]
    assert len(exported) == 1, f"{path.name} exports {exported}"
    own = [line for line in text.splitlines() if line.startswith('#include "')]
    assert all(line.startswith('#include "tinytrain/') for line in own), "an exported folder has no other files"


def test_headers_of_the_runtime_carry_the_licence() -> None:
    for path in runtime_c.INCLUDE.rglob("*.h"):
        assert path.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n"), path


def test_a_label_names_window_and_stride() -> None:
    net = nets.Net(np.random.default_rng(0))
    x = net.depthwise(
        "d", net.conv("c", net.input((8, 8, 3)), 4, kernel=(3, 1), stride=2), kernel=5, stride=(1, 2), pad=2
    )
    program = program_of(net.done(net.dense("head", net.mean("m", x), 3)))
    assert [row.label for row in program.rows] == [
        "tt_conv2d_s8 3x1 s2", "tt_depthwise_conv2d_s8 5x5 s1x2", "tt_mean_s8", "tt_conv2d_s8 1x1",
    ]  # fmt: skip


def test_rows_say_what_they_read_and_write(chain: Graph) -> None:
    """Elements in the arena: weights and constants lie elsewhere."""
    graph = training_graph(chain, all_weights(chain))
    for row, node in zip(program_of(graph).rows, graph.nodes, strict=True):
        assert row.reads == sum(t.size for t in graph.ins(node) if t.role.in_arena), node.name
        assert row.writes == sum(t.size for t in graph.outs(node)) > 0, node.name
