# SPDX-License-Identifier: Apache-2.0
"""Average over sliding windows. x [H, W, C] -> y [OH, OW, C]; padded cells are not counted.

Attributes `kernel`, `strides`, `padding`, `clamp`. Sums of integers are divided by the number of cells, rounded half
away from zero: TFLite's reference. Input and output have the same quantization, so it takes no part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops import windows
from tinytrain.ops.operator import (
    Evaluation,
    KernelCall,
    exponent_args,
    kernel_for,
    operator,
    own_exponent,
)
from tinytrain.ops.pooling import Pool2d, PoolGradient, gradient_args, window_attrs
from tinytrain.ops.rescale import clamped, corners, masked_where_clamped
from tinytrain.ops.training import TrainingBuilder


@operator("average_pool2d")
class AveragePool2d(Pool2d):
    most_cells = 65535  # sums of so many int8 values, or int16 gradients, fit 32 bits

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        (x,) = inputs
        kernel = node.attrs["kernel"]
        sums = windows.patches(node, x.astype(np.int64), kernel).sum(axis=(2, 3))
        cells = windows.cells_inside(node, x.shape, kernel)[:, :, None]
        return [clamped(np.sign(sums) * ((np.abs(sums) + cells // 2) // cells), node)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        from torch.nn import functional as F

        (x,) = inputs
        kernel = node.attrs["kernel"]
        image = windows.padded_channels_first(node, x, 0.0)
        sums = F.avg_pool2d(image, kernel, windows.strides_of(node), divisor_override=1).permute(0, 2, 3, 1)
        return sums / x.new_tensor(windows.cells_inside(node, tuple(x.shape[1:]), kernel))[:, :, None]

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        if not wanted:
            return [None]
        graph, shape, kernel = build.graph, build.graph[node.inputs[0]].shape, node.attrs["kernel"]
        gy = masked_where_clamped(build, node, gy, corners(graph, node.inputs[0]))
        exponent = None
        # 8 bits are too few for a second rounding under the same exponent
        if graph[gy].dtype == "int16" and not windows.windows_overlap(node, graph[gy].shape, kernel):
            old = graph[gy].exponent
            assert old is not None
            exponent = old.shifted(-shared_bits(node, shape))
        attrs = {"x_shape": shape, **window_attrs(node)}
        return [build.gradient("average_pool2d_gradient", node, "gx", [gy], exponent=exponent, **attrs)]


def shared_bits(node: Node, shape: tuple[int, ...]) -> int:
    """k with 2^k <= the smallest number of cells of a window < 2^(k+1): every 1 / cells is 2^-k times at most 1."""
    return int(windows.cells_inside(node, shape, node.attrs["kernel"]).min()).bit_length() - 1


@operator("average_pool2d_gradient")
class AveragePool2dGradient(PoolGradient):
    """gx [H, W, C] = sum of gy / cells over the windows a cell lies in: input gy [OH, OW, C], attribute x_shape.

    Each gy is first scaled by a factor round(2^(15+k) / cells) / 2^15. Where no windows overlap that is all for int16
    mantissas, and gx's exponent is gy's less k; otherwise the sums get a delayed exponent.
    """

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        (gy,) = inputs
        shape, kernel = node.attrs["x_shape"], node.attrs["kernel"]
        cells, k = windows.cells_inside(node, shape, kernel), shared_bits(node, shape)
        spare = am.spare_bits(gy.dtype)
        factors = ((1 << (15 + k)) + cells // 2) // cells
        scaled = am.rounding_shift(gy.astype(np.int64) * factors[:, :, None], 15 - spare)
        terms = np.broadcast_to(scaled[:, :, None, None, :], (*gy.shape[:2], *kernel, gy.shape[2]))
        sums = windows.scatter(node, terms, shape)
        if own_exponent(run.graph, node) is None:
            return [sums.astype(np.int16)]
        return [run.mantissas(sums, run.exponent(node.inputs[0]) - k - spare, node.outputs[0])]

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """A unit for every window that a cell lies in: half for its rounding, half a step of its 15-bit factor."""
        shape = node.attrs["x_shape"]
        ones = np.ones((*inputs[0].shape[:2], *node.attrs["kernel"], shape[2]), np.int64)
        unit = run.unit(node.inputs[0]) * 2.0 ** -shared_bits(node, shape)
        return super().error(run, node) + windows.scatter(node, ones, shape) * unit

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, gx = graph[node.inputs[0]], graph[node.outputs[0]]
        assert gy.exponent is not None
        k = shared_bits(node, gx.shape)
        args = {
            **gradient_args(graph, node), "one": 1 << (15 + k),
            **exponent_args("gy", gy.exponent.shifted(-k - am.spare_bits(gy.dtype))),
        }  # fmt: skip
        return KernelCall(kernel_for(gx, "tt_average_pool2d_gradient"), args)
