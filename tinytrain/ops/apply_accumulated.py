# SPDX-License-Identifier: Apache-2.0
"""The end of a batch: an accumulator moves into its parameter and becomes zero.

Inputs (hyper, accumulator, parameter, master?), outputs their next versions.
"""

from __future__ import annotations

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator
from tinytrain.ops.updates import (
    ACCUMULATOR_BITS,
    FRACTION_BITS,
    HYPER,
    apply_delta,
    decay_args,
    decayed,
    mode_of,
    noise_for,
    parameter_of,
)


def accumulator_shift(graph: Graph, node: Node) -> int:
    """Right shift from the accumulator's last bit to the parameter's (or its master's)."""
    parameter = parameter_of(graph, node)
    return ACCUMULATOR_BITS[parameter.dtype] - FRACTION_BITS[mode_of(parameter)]


@operator("apply_accumulated")
class ApplyAccumulated(Operator):
    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(tensor.shape, tensor.dtype) for tensor in graph.outs(node)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        hyper, accumulator, *targets = inputs
        mode = mode_of(parameter_of(run.graph, node))
        right = accumulator_shift(run.graph, node)
        noise = noise_for(node, mode, hyper, accumulator.shape)
        if noise is None:
            delta = am.rounding_shift(accumulator, right)
        else:
            delta = (accumulator.astype(np.int64) + (noise.astype(np.int64) >> (32 - right))) >> right
        delta = decayed(node, mode, hyper, targets, delta)
        return [np.zeros_like(accumulator), *apply_delta(mode, delta, targets)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        parameter = parameter_of(graph, node)
        args = {
            "parameter": Ref(parameter.name), "master": Ref(parameter.master) if parameter.master else None,
            "accumulator": Ref(parameter.accumulator or ""), "hyper": Ref(HYPER), "size": parameter.size,
            "right": accumulator_shift(graph, node), "stream": node.attrs["stream"], "mode": int(mode_of(parameter)),
            **decay_args(node),
        }  # fmt: skip
        return KernelCall("tt_apply_accumulated_s32", args)
