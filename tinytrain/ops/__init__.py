# SPDX-License-Identifier: Apache-2.0
"""Operators: one file each with shapes, reference arithmetic, gradient, kernel, cost. Files register themselves."""

from tinytrain.ops.evaluate import evaluate, initial_values
from tinytrain.ops.operator import (
    Cost,
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    Scratch,
    ScratchBytes,
    Structs,
    add_node,
    load_all,
    lookup,
    names,
    operator,
)

load_all(__name__, __path__)

__all__ = [
    "Cost",
    "Evaluation",
    "KernelCall",
    "Operator",
    "Ref",
    "Scratch",
    "ScratchBytes",
    "Structs",
    "add_node",
    "evaluate",
    "initial_values",
    "lookup",
    "names",
    "operator",
]
