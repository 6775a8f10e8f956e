# SPDX-License-Identifier: Apache-2.0
"""What pools over sliding windows share: shapes, and the arguments of their kernels. x [H, W, C] -> y [OH, OW, C].

Attributes `kernel`, `strides`, `padding`, `clamp`. Input and output have the same quantization.
"""

from __future__ import annotations

from typing import Any

from tinytrain.graph import Graph, Node
from tinytrain.ops import windows
from tinytrain.ops.operator import KernelCall, Operator, Ref, Scratch, own_exponent, refuse
from tinytrain.ops.rescale import clamp_args, require_same_scale


class Pool2d(Operator):
    """most_cells: of a window, if there is a limit."""

    most_cells: int | None = None

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        return [[(node.inputs[0], 2), (node.outputs[0], 2)]]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        shape, (height, width) = graph[node.inputs[0]].shape, node.attrs["kernel"]
        if len(shape) != 3:
            raise refuse(node, f"x {list(shape)} is not an image [H, W, C]")
        size = windows.output_size(node, shape, (height, width))
        if self.most_cells is not None and height * width > self.most_cells:
            raise refuse(node, f"a {height} x {width} window holds more than {self.most_cells} cells")
        windows.cells_inside(node, shape, (height, width))
        require_same_scale(graph, node)
        return [((*size, shape[2]), "int8")]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        require_same_scale(graph, node)
        x, y = graph[node.inputs[0]], graph[node.outputs[0]]
        args = {
            "x": Ref(x.name), "y": Ref(y.name), "channels": x.shape[2],
            **windows.window_args(node, x.shape, y.shape, node.attrs["kernel"]), **clamp_args(node),
        }  # fmt: skip
        return KernelCall(f"tt_{self.name}_s8", args)


class PoolGradient(Operator):
    """gx [H, W, C] = a sum over the windows that a cell lies in: inputs (gy [OH, OW, C], ...), attribute x_shape."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def scratch(self, graph: Graph, node: Node) -> int:
        return 4 * node.attrs["x_shape"][2]  # the sums of one pixel


def window_attrs(node: Node) -> dict[str, Any]:
    """The attributes that a pool's gradient has from the pool."""
    return {key: node.attrs[key] for key in ("kernel", "strides", "padding") if key in node.attrs}


def gradient_args(graph: Graph, node: Node) -> dict[str, Any]:
    """The arguments that the gradients' kernels have in common."""
    gy, gx = graph[node.inputs[0]], graph[node.outputs[0]]
    return {
        "gy": Ref(gy.name), "gx": Ref(gx.name), "scratch": Scratch(), "channels": gx.shape[2],
        **windows.window_args(node, gx.shape, gy.shape, node.attrs["kernel"]),
        "gx_exponent": own_exponent(graph, node),
    }  # fmt: skip
