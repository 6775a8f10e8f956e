# SPDX-License-Identifier: Apache-2.0
"""A Plan: model, board, scheme and ledger; everything needed to export, and to run the same steps on the host."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinytrain.boards import Board
from tinytrain.errors import ModelError, OutputError, SchemeError
from tinytrain.frontends import load_model
from tinytrain.graph import Graph, Phase
from tinytrain.memory import FlashLedger, Layout, SramLedger, lay_out
from tinytrain.ops import lookup
from tinytrain.ops.training import ExponentStart
from tinytrain.planner.costs import Estimate, estimate
from tinytrain.planner.latency import Latency, latency
from tinytrain.program import Program, lower
from tinytrain.train import Scheme, parse_scheme, training_graph

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What will be trained on which board, and the bytes it takes.

    model:     the model file
    forward:   its graph
    board:     narrowed to the budgets
    exponents: initial gradient exponents, measured on the host
    stack_path: the functions of the deepest call chain
    """

    model: Path
    forward: Graph
    board: Board
    scheme: Scheme
    sram: SramLedger
    flash: FlashLedger
    exponents: ExponentStart = field(default_factory=dict)
    stack_path: tuple[str, ...] = ()
    peak_node: str = ""
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def graph(self) -> Graph:
        """The training graph."""
        return training_graph(self.forward, self.scheme, self.exponents)

    @functools.cached_property
    def layout(self) -> Layout:
        return lay_out(self.graph)

    def program(self) -> Program:
        """The training step as kernel calls with fixed addresses."""
        return lower(self.graph, self.layout)

    @functools.cached_property
    def instructions(self) -> Estimate | None:
        """Executed instructions, from a model of each kernel; None for a core without one."""
        return estimate(self.program(), self.board.core)

    @property
    def latency(self) -> Latency | None:
        """Time on the real part, estimated; None for a core or a clock that nobody has stated."""
        found = self.instructions
        return latency(self.board, found.inference, found.train_step) if found else None

    @property
    def classes(self) -> int:
        return self.graph[self.graph.outputs[0]].size

    @property
    def kind(self) -> str:
        """What the outputs are, in words."""
        labels = self.scheme.loss.labels(self.classes)
        return f"{labels} classes" if labels else f"{self.classes} outputs"

    def input(self) -> dict[str, Any]:
        """What a sample is: shape, dtype, scale and zero point."""
        return input_facts(self.forward)

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of the forward part, and of everything a training step does after it."""
        return macs_of(self.graph)

    def but(self, **changes: Any) -> Plan:
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """The stable JSON of docs/json.md."""
        counted, time = self.instructions, self.latency
        return {
            "format": FORMAT,
            "model": str(self.model),
            "model_sha256": sha256(self.model),
            "board": self.board.name,
            "classes": self.classes,
            "input": self.input(),
            "scheme": self.scheme.as_dict(),
            "sram": self.sram.as_dict(),
            "flash": self.flash.as_dict(),
            "macs": self.macs(),
            "instructions": {
                "inference": counted.inference if counted else None,
                "train_step": counted.train_step if counted else None,
            },
            "latency": time.as_dict() if time else None,
            "peak_node": self.peak_node,
            "stack_path": list(self.stack_path),
            "exponents": {name: list(state) for name, state in self.exponents.items()},
            "board_limits": self.board.as_dict(),
            "notes": list(self.notes),
        }

    def save(self, path: Path | str) -> None:
        """Write plan.json in one step: never a half-written file."""
        path = Path(path)
        try:
            fresh = path.with_name(path.name + ".partial")
            fresh.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
            fresh.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write '{path}'", why=error.strerror or str(error)) from None

    @staticmethod
    def load(path: Path | str) -> Plan:
        """Read plan.json; the model file is looked for as named, then beside the plan. It must be the same file."""
        path = Path(path)
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            raise SchemeError(f"no plan file '{path}'", fix="tinytrain plan MODEL --data DATA -o plan.json") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise SchemeError(f"the plan file '{path}' cannot be read", why=str(error)) from None
        try:
            return _from_document(path, document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SchemeError(
                f"'{path}' is not a plan", why=f"{type(error).__name__}: {error}", fix="make it with tinytrain plan"
            ) from None


def _from_document(path: Path, document: Mapping[str, Any]) -> Plan:
    model = Path(document["model"])
    candidates = [model, path.parent / model]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise ModelError(f"the plan's model '{model}' is not there", where=str(path), fix="put it back, or plan again")
    if sha256(found) != document["model_sha256"]:
        raise ModelError(f"'{found}' is not the file the plan was made for", where=str(path), fix="plan again")
    forward = load_model(found)
    sram, flash = dict(document["sram"]), dict(document["flash"])
    sram.pop("total"), flash.pop("total")
    return Plan(
        found, forward, Board.from_dict(document["board_limits"]), parse_scheme(document["scheme"], forward),
        SramLedger(**sram), FlashLedger(**flash),
        {name: (state[0], state[1], state[2]) for name, state in document["exponents"].items()},
        tuple(document.get("stack_path", ())), document.get("peak_node", ""), tuple(document.get("notes", ())),
    )  # fmt: skip


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def input_facts(graph: Graph) -> dict[str, Any]:
    tensor = graph[graph.inputs[0]]
    return {
        "name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype, "scale": tensor.scale,
        "zero_point": tensor.zero_point,
    }  # fmt: skip


def macs_of(graph: Graph) -> dict[str, int]:
    totals = {"forward": 0, "backward": 0}
    for node in graph.nodes:
        part = "forward" if node.phase is Phase.FORWARD else "backward"
        totals[part] += lookup(node.op).cost(graph, node).macs
    return totals
