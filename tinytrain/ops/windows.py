# SPDX-License-Identifier: Apache-2.0
"""Sliding windows over an image [H, W, C]: sizes, patches, and the scatter that is their transpose.

Nodes carry `strides` (vertical, horizontal) and `padding` (top, bottom, left, right); without them the window is 1 x 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops.operator import refuse


def strides_of(node: Node) -> tuple[int, int]:
    return node.attrs.get("strides", (1, 1))


def padding_of(node: Node) -> tuple[int, int, int, int]:
    return node.attrs.get("padding", (0, 0, 0, 0))


def image_shape(shape: tuple[int, ...], channels: int | None = None) -> tuple[int, int, int]:
    """A shape as [H, W, C]. A vector is one pixel, and so is anything that a dense layer takes as one of `channels`."""
    if len(shape) == 3 and channels in (None, shape[2]):
        return shape
    return 1, 1, math.prod(shape)


def as_image(x: np.ndarray, channels: int | None = None) -> np.ndarray:
    return x.reshape(image_shape(x.shape, channels))


def output_size(node: Node, shape: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the output; refused where a window does not fit."""
    (sh, sw), (top, bottom, left, right) = strides_of(node), padding_of(node)
    height, width = shape[0] + top + bottom - kernel[0], shape[1] + left + right - kernel[1]
    if height < 0 or width < 0:
        raise refuse(node, f"a {kernel[0]} x {kernel[1]} window is larger than the padded input {list(shape)}")
    return height // sh + 1, width // sw + 1


def patches(node: Node, x: np.ndarray, kernel: tuple[int, ...], fill: int = 0) -> np.ndarray:
    """x [H, W, C] -> [OH, OW, KH, KW, C], padded with `fill`."""
    (sh, sw), (top, bottom, left, right) = strides_of(node), padding_of(node)
    padded = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, (kernel[0], kernel[1]), axis=(0, 1))
    return view[::sh, ::sw].transpose(0, 1, 3, 4, 2)


def scatter(node: Node, terms: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The transpose of `patches`: adds terms [OH, OW, KH, KW, C] onto an image of `shape`."""
    (sh, sw), (top, bottom, left, right) = strides_of(node), padding_of(node)
    height, width, channels = shape
    sums = np.zeros((height + top + bottom, width + left + right, channels), np.result_type(terms, np.int64))
    oh, ow, kh, kw, _ = terms.shape
    for i in range(kh):
        for j in range(kw):
            sums[i : i + sh * (oh - 1) + 1 : sh, j : j + sw * (ow - 1) + 1 : sw] += terms[:, :, i, j]
    return sums[top : top + height, left : left + width]


def window_args(
    node: Node, x_shape: tuple[int, ...], y_shape: tuple[int, ...], kernel: tuple[int, ...]
) -> dict[str, Any]:
    """The fields of struct tt_window."""
    (height, width, _), (out_height, out_width, _) = image_shape(x_shape), image_shape(y_shape)
    (sh, sw), (top, _, left, _) = strides_of(node), padding_of(node)
    return {
        "window": {
            "x_height": height, "x_width": width, "y_height": out_height, "y_width": out_width,
            "kernel_height": kernel[0], "kernel_width": kernel[1], "stride_height": sh, "stride_width": sw,
            "pad_top": top, "pad_left": left,
        },
    }  # fmt: skip


def kernel_of(graph: Graph, node: Node, weight: str) -> tuple[int, int]:
    """Height and width of the kernel a weight holds: conv2d [CO, KH, KW, CI], depthwise [KH, KW, C], dense [CO, CI]."""
    shape = graph[weight].shape
    if len(shape) == 2:
        return 1, 1
    return (shape[1], shape[2]) if len(shape) == 4 else (shape[0], shape[1])


def cells_inside(node: Node, shape: tuple[int, ...], kernel: tuple[int, ...]) -> np.ndarray:
    """How many cells of each window are not padding, int64[OH, OW]; refused where a window has none."""
    cells = patches(node, np.ones((*shape[:2], 1), np.int64), kernel).sum(axis=(2, 3, 4))
    if cells.min() == 0:
        raise refuse(node, "one of its windows lies wholly in the padding", "export the model with less padding")
    return cells


def windows_overlap(node: Node, y_shape: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether a cell may lie in more than one window."""
    return any(
        size > 1 and stride < extent for size, stride, extent in zip(y_shape[:2], strides_of(node), kernel, strict=True)
    )


def channels_first(node: Node, x: Any) -> tuple[Any, tuple[int, int]]:
    """A torch batch [N, H, W, C] -> ([N, C, H, W], padding (vertical, horizontal) still to be done by the operator).

    Memory stays in channels-last order. Padding that differs between sides is done here.
    """
    top, bottom, left, right = padding_of(node)
    if (top, left) == (bottom, right):
        return x.permute(0, 3, 1, 2), (top, left)
    return padded_channels_first(node, x, 0.0), (0, 0)


def padded_channels_first(node: Node, x: Any, value: float) -> Any:
    """A torch batch [N, H, W, C] -> [N, C, H + top + bottom, W + left + right], padded with a value."""
    from torch.nn import functional as F

    top, bottom, left, right = padding_of(node)
    if any(padding_of(node)):
        x = F.pad(x, (0, 0, left, right, top, bottom), value=value)
    return x.permute(0, 3, 1, 2)
