# SPDX-License-Identifier: Apache-2.0
"""Dimensions in another order: y's dimension i is x's dimension perm[i]. Up to 4 dimensions, int8 or int16."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import Evaluation, KernelCall, Operator, Ref, operator, refuse
from tinytrain.ops.training import TrainingBuilder

RANK = 4
KERNELS = {"int8": "tt_transpose_s8", "int16": "tt_transpose_s16"}


@operator("transpose")
class Transpose(Operator):
    saturates = False

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, perm = graph[node.inputs[0]], node.attrs["perm"]
        if sorted(perm) != list(range(len(x.shape))) or len(perm) > RANK:
            raise refuse(node, f"the order {list(perm)} on {list(x.shape)}; up to {RANK} dimensions are supported")
        return [(tuple(x.shape[axis] for axis in perm), x.dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(inputs[0].transpose(node.attrs["perm"]))]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        return inputs[0].permute(0, *[axis + 1 for axis in node.attrs["perm"]])

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        inverse = tuple(int(axis) for axis in np.argsort(node.attrs["perm"]))
        return [build.gradient("transpose", node, "gx", [gy], exponent=build.graph[gy].exponent, perm=inverse)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, perm = graph[node.inputs[0]], node.attrs["perm"]
        missing = RANK - len(perm)
        args = {
            "x": Ref(x.name), "y": Ref(node.outputs[0]),
            "extents": np.array([1] * missing + [x.shape[axis] for axis in perm], np.int32),
            "x_steps": np.array([0] * missing + [math.prod(x.shape[axis + 1 :]) for axis in perm], np.int32),
        }  # fmt: skip
        return KernelCall(KERNELS[x.dtype], args)
