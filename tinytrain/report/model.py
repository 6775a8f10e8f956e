# SPDX-License-Identifier: Apache-2.0
"""What a model consists of and what it costs: one row per operator, and totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tinytrain.data import InputSpec, takes_pixels
from tinytrain.graph import Graph, Role
from tinytrain.memory import lay_out
from tinytrain.ops import lookup


@dataclass(frozen=True)
class OperatorFigures:
    """One operator: multiply-accumulates, bytes of constants and of outputs. trainable: it has weights."""

    name: str
    op: str
    output_shape: tuple[int, ...]
    macs: int
    weight_bytes: int
    activation_bytes: int
    trainable: bool


@dataclass(frozen=True)
class ModelFigures:
    """A model: its operators in order. arena: bytes one inference needs at once, and its lower bound."""

    file: str
    format: str
    input: InputSpec
    classes: int
    operators: tuple[OperatorFigures, ...]
    arena: int
    arena_lower_bound: int

    @property
    def totals(self) -> dict[str, int]:
        """A tensor that several operators read is counted once."""
        return {
            "operators": len(self.operators),
            "macs": sum(row.macs for row in self.operators),
            "weight_bytes": sum(row.weight_bytes for row in self.operators),
            "activation_bytes": sum(row.activation_bytes for row in self.operators),
            "arena": self.arena,
            "arena_lower_bound": self.arena_lower_bound,
        }

    def as_dict(self) -> dict[str, Any]:
        spec = self.input
        return {
            "model": self.file,
            "format": self.format,
            "input": {
                "name": spec.name, "shape": list(spec.shape), "dtype": "int8", "scale": spec.scale,
                "zero_point": spec.zero_point, "uint8": uint8_meaning(spec),
            },
            "classes": self.classes,
            "operators": [{**vars(row), "output_shape": list(row.output_shape)} for row in self.operators],
            "totals": self.totals,
        }  # fmt: skip


def uint8_meaning(spec: InputSpec) -> str:
    """What becomes of uint8 pixels."""
    return "pixel - 128" if takes_pixels(spec) else "pixel / 255, quantized"


def model_figures(graph: Graph) -> ModelFigures:
    """The figures of a front end's graph."""
    layout = lay_out(graph)
    return ModelFigures(
        str(graph.attrs.get("file", graph.name)), str(graph.attrs.get("format", "")), InputSpec.of(graph),
        graph[graph.outputs[0]].size, tuple(_rows(graph)), layout.arena, layout.lower_bound,
    )  # fmt: skip


def _rows(graph: Graph) -> Iterator[OperatorFigures]:
    counted: set[str] = set()
    for node in graph.nodes:
        op = lookup(node.op)
        constants = [t for t in graph.ins(node) if t.role is Role.CONSTANT and t.name not in counted]
        counted.update(tensor.name for tensor in constants)
        outputs = graph.outs(node)
        yield OperatorFigures(
            node.name, node.op, outputs[0].shape, op.cost(graph, node).macs, sum(tensor.nbytes for tensor in constants),
            0 if op.view else sum(tensor.nbytes for tensor in outputs), op.weight_axes is not None,
        )  # fmt: skip
