# SPDX-License-Identifier: Apache-2.0
"""Element by element product of int8 tensors: a, b -> y of a's shape.

b has a's shape, or one value per channel ([C] or [1, 1, C]: a gate), or one element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node, Role, Tensor
from tinytrain.ops.operator import (
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    exponent_args,
    kernel_for,
    operator,
    refuse,
    same_channels,
)
from tinytrain.ops.rescale import clamp_args, clamped, corners, masked_where_clamped, multiplier_args, q15, rescale
from tinytrain.ops.training import TrainingBuilder


def fits(a: Tensor, b: Tensor) -> bool:
    return b.shape == a.shape or b.size == 1 or (b.size == a.shape[-1] == b.shape[-1])


def product_args(graph: Graph, node: Node) -> dict[str, Any]:
    """Zero points and the multiplier; its factor is formed in single precision, as TFLite forms it."""
    a, b = graph.ins(node)
    y = graph[node.outputs[0]]
    real = np.float32(np.float32(a.scale) * np.float32(b.scale)) / np.float32(y.scale)
    return {
        "a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "y_zero_point": y.zero_point,
        **multiplier_args(node, "y", float(real), 255 * 255),
    }  # fmt: skip


def rescaled_product(args: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y before its clamp."""
    product = (np.asarray(a, np.int64) - args["a_zero_point"]) * (np.asarray(b, np.int64) - args["b_zero_point"])
    return rescale(product, args, "y") + args["y_zero_point"]


@operator("mul")
class Mul(Operator):
    in_place = ((0, 0), (1, 0))

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        return same_channels(graph, *[t.name for t in graph.ins(node) if t.size > 1], node.outputs[0])

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        a, b = graph.ins(node)
        if not fits(a, b):
            why = f"a {list(a.shape)}, b {list(b.shape)}: b must have a's shape, one value per channel, or one element"
            raise refuse(node, why)
        if node.outputs[0] in graph.tensors:
            product_args(graph, node)
        return [(a.shape, "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        a, b = inputs
        y = rescaled_product(product_args(run.graph, node), a.reshape(-1, b.size), b.reshape(1, -1))
        return [clamped(y.reshape(a.shape), node)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        a, b = inputs
        size = graph[node.inputs[1]].size
        shape = a.shape[1:] if size == graph[node.inputs[0]].size else [*[1] * (a.dim() - 2), size]
        return a * b.reshape(-1, *shape)

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        a, b = build.graph.ins(node)
        computed = [tensor.role is Role.ACTIVATION for tensor in (a, b)]
        if not wanted:
            return [None] * sum(computed)
        corner_a, corner_b = corners(build.graph, a.name), corners(build.graph, b.name)
        extremes = rescaled_product(product_args(build.graph, node), corner_a[:, None], corner_b[None, :])
        gy = masked_where_clamped(build, node, gy, extremes)
        gradients: list[str | None] = []
        if computed[0]:
            gradients.append(build.gradient("mul_gradient", node, "ga", [gy, b.name], x_shape=a.shape))
        if computed[1]:
            op = "mul_gradient" if b.size == a.size else "mul_channel_gradient"
            gradients.append(build.gradient(op, node, "gb", [gy, a.name], x_shape=b.shape))
        return gradients

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        a, b = graph.ins(node)
        args = {
            "a": Ref(a.name), "b": Ref(b.name), "y": Ref(node.outputs[0]), "size": a.size, "b_size": b.size,
            **product_args(graph, node), **clamp_args(node),
        }  # fmt: skip
        return KernelCall("tt_mul_s8", args)


def gradient_args(graph: Graph, node: Node) -> dict[str, Any]:
    """What both gradient kernels take; the other operand's scale becomes the factor and part of the exponent."""
    gy, other = graph.ins(node)
    gx = graph[node.outputs[0]]
    assert gy.exponent is not None and gx.exponent is not None and gx.exponent.state
    factor, k = q15(other.scale)
    return {
        "gy": Ref(gy.name), "other": Ref(other.name), "gx": Ref(gx.name), "other_zero_point": other.zero_point,
        "factor": factor, **exponent_args("gy", gy.exponent.shifted(k - 15)), "gx_exponent": Ref(gx.exponent.state),
    }  # fmt: skip


def gradient_mantissas(run: Evaluation, node: Node, sums: np.ndarray) -> np.ndarray:
    """sums of gy * (other - zero point), any shape -> gx"""
    factor, k = q15(run.graph[node.inputs[1]].scale)
    exponent = run.exponent(node.inputs[0]) + k - 15
    return run.mantissas(sums * factor, exponent, node.outputs[0]).reshape(node.attrs["x_shape"])


class _ProductGradient(Operator):
    """Inputs (gy, other operand); the gradient is under a delayed exponent."""

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """The other operand's scale has 15 bits, and so has the exact result but for its own rounding."""
        (y,) = node.outputs
        exact = np.abs(run.values[y].astype(np.float64)) + 1
        return super().error(run, node) + exact * run.unit(y) * 2.0**-15

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def centred(self, run: Evaluation, node: Node, other: np.ndarray) -> np.ndarray:
        return other.astype(np.int64) - run.graph[node.inputs[1]].zero_point


@operator("mul_gradient")
class MulGradient(_ProductGradient):
    """gx = gy * real(other) for an operand of gy's size; the other one may be one value per channel, or one element."""

    in_place = ((0, 0),)

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, other = inputs
        products = gy.reshape(-1, other.size).astype(np.int64) * self.centred(run, node, other).reshape(1, -1)
        return [gradient_mantissas(run, node, products)]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, other = graph.ins(node)
        args = {"size": gy.size, "other_size": other.size, **gradient_args(graph, node)}
        return KernelCall(kernel_for(gy, "tt_mul_gradient"), args)


@operator("mul_channel_gradient")
class MulChannelGradient(_ProductGradient):
    """gx[c] = sum of gy * real(other) over all elements that were multiplied by x[c]."""

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, other = inputs
        products = gy.astype(np.int64) * self.centred(run, node, other).reshape(gy.shape)
        size = int(np.prod(node.attrs["x_shape"]))
        return [gradient_mantissas(run, node, products.reshape(-1, size).sum(axis=0))]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, gx = graph[node.inputs[0]], graph[node.outputs[0]]
        args = {"pixels": gy.size // gx.size, "channels": gx.size, **gradient_args(graph, node)}
        return KernelCall(kernel_for(gy, "tt_mul_channel_gradient"), args)
