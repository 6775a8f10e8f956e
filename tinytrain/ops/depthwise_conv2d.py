# SPDX-License-Identifier: Apache-2.0
"""Depthwise 2-D convolution, int8 weights per channel. x [H, W, C], w [KH, KW, C M], b [C M] -> y [OH, OW, C M].

Output channel c reads input channel c // M alone. A weight may be cut along its channels into blocks [KH, KW, count]:
inputs are (x, bias, block, block, ...), attribute `blocks` gives (start, count) of each, in order; without it the one
weight is whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops import windows
from tinytrain.ops.conv2d import SUM_LIMIT, finish, relative_scales, requantize_args
from tinytrain.ops.operator import (
    Cost,
    Evaluation,
    KernelCall,
    Operator,
    Ref,
    Scratch,
    ScratchBytes,
    Structs,
    exponent_args,
    kernel_for,
    operator,
    refuse,
    worthwhile_scratch,
)
from tinytrain.ops.training import TrainingBuilder
from tinytrain.ops.updates import add_updates, update_args, updated

Block = tuple[int, int]
# what kernels expand to int16 at a time
EXPANDED_CHANNELS, EXPANDED_OUTPUTS, MOST_EXPANDED_BYTES = 4, 4, 16384
MOST_CELL_BYTES = 6144  # of rows of cells beside each other
# so many products of a weight and a gradient fit 32 bits
GRADIENT_SUM_LIMIT = am.INT32_MAX // (128 * 32768)


def blocks_of(graph: Graph, node: Node) -> list[Block]:
    """The channel ranges of the weight blocks (the last inputs) of a depthwise convolution or its gradient."""
    if "blocks" in node.attrs:
        return list(node.attrs["blocks"])
    return [(0, graph[node.inputs[-1]].shape[2])]


def block_structs(graph: Graph, node: Node, names: tuple[str, ...]) -> Structs:
    return Structs(
        "tt_depthwise_block",
        tuple(
            {"weights": Ref(name), "start": start, "count": count}
            for name, (start, count) in zip(names, blocks_of(graph, node), strict=True)
        ),
    )


def weight_scales(graph: Graph, node: Node, names: tuple[str, ...]) -> np.ndarray:
    """Real value of one weight step per output channel, float64[C M]."""
    scales = []
    for (_, count), name in zip(blocks_of(graph, node), names, strict=True):
        quantization = graph[name].quantization
        assert quantization is not None
        scales.append(np.broadcast_to(quantization.scale, (count,)))
    return np.concatenate(scales)


def inputs_of(block: Block, multiplier: int) -> tuple[int, int]:
    """The input channels (start, count) that a range of output channels reads."""
    start, count = block
    first = start // multiplier
    return first, (start + count - 1) // multiplier + 1 - first


def plane_bytes(shape: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int]) -> int:
    """What the windows of one channel's outputs, whole groups of four in a row, read as int16; and their weights."""
    height = (shape[0] - 1) * strides[0] + kernel[0]
    width = (-(-shape[1] // 4) * 4 - 1) * strides[1] + kernel[1]
    return 2 * height * width + -(-kernel[0] * kernel[1] // 4) * 4


@operator("depthwise_conv2d")
class DepthwiseConv2d(Operator):
    weight_axes = (2, 2)

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        x, bias, weight = node.inputs
        if graph[x].shape[2] != graph[weight].shape[2]:
            return []  # M output channels would have to move together
        return [[(x, 2), (weight, 2), (bias, 0), (node.outputs[0], 2)]]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, bias, *blocks = graph.ins(node)
        ranges = blocks_of(graph, node)
        channels = sum(count for _, count in ranges)
        counts, kernel = [count for _, count in ranges], blocks[0].shape[:2]
        if [block.shape for block in blocks] != [(*kernel, count) for count in counts]:
            raise refuse(node, f"weights {[list(b.shape) for b in blocks]} for blocks of {counts} channels")
        if [start for start, _ in ranges] != [sum(counts[:i]) for i in range(len(counts))]:
            raise refuse(node, f"its blocks {ranges} do not follow one another")
        if len(x.shape) != 3 or channels % x.shape[2] or bias.shape != (channels,):
            raise refuse(node, f"x {list(x.shape)}, weights of {channels} channels, bias {list(bias.shape)}")
        if kernel[0] * kernel[1] > SUM_LIMIT:
            raise refuse(node, "a sum of this many products may pass 32 bits")
        return [((*windows.output_size(node, x.shape, kernel), channels), "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, bias, *blocks = inputs
        args = requantize_args(run.graph, node, weight_scales(run.graph, node, node.inputs[2:]))
        w = np.concatenate(blocks, axis=2).astype(np.int64)
        read = np.repeat(x.astype(np.int64) - args["x_zero_point"], w.shape[2] // x.shape[2], axis=2)
        patches = windows.patches(node, read, w.shape[:2])
        return [finish((patches * w).sum(axis=(2, 3)), bias.astype(np.int64), args)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        from torch.nn import functional as F

        x, bias, weight = inputs
        image, padding = windows.channels_first(node, x)
        kernel = weight.permute(2, 0, 1)[:, None]
        y = F.conv2d(image, kernel, bias, windows.strides_of(node), padding, groups=x.shape[3])
        return y.permute(0, 2, 3, 1)

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        gy = build.masked(node, gy)
        x, y = build.graph[node.inputs[0]], build.graph[node.outputs[0]]
        gx = None
        if wanted:
            attrs = {**node.attrs, "x_shape": x.shape}
            gx = build.gradient("depthwise_conv2d_input_gradient", node, "gx", [gy, *node.inputs[2:]], **attrs)
        blocks, multiplier = blocks_of(build.graph, node), y.shape[2] // x.shape[2]
        add_updates(
            build, node, gy, "depthwise_conv2d_weight_update", blocks,
            windows.kernel_of(build.graph, node, node.inputs[2]),
            [inputs_of(block, multiplier) for block in blocks], multiplier=multiplier,
        )  # fmt: skip
        return [gx]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, y = graph[node.inputs[0]], graph[node.outputs[0]]
        args = {
            "x": Ref(x.name), "bias": Ref(node.inputs[1]), "y": Ref(y.name),
            "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
            "blocks": block_structs(graph, node, node.inputs[2:]), "block_count": len(node.inputs) - 2,
            "x_channels": x.shape[2], "y_channels": y.shape[2], "channel_multiplier": y.shape[2] // x.shape[2],
            **windows.window_args(node, x.shape, y.shape, windows.kernel_of(graph, node, node.inputs[2])),
            **requantize_args(graph, node, weight_scales(graph, node, node.inputs[2:])),
        }  # fmt: skip
        return KernelCall("tt_depthwise_conv2d_s8", args)

    def scratch(self, graph: Graph, node: Node) -> int:
        return worthwhile_scratch(self, graph, node)

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        """Neighbouring channels of the image and its border as int16, and their weights; more than 16 KB help little.

        Or a channel's planes of the scalar kernels; or, for Helium, what a row of outputs reads of 16 channels, four
        rows in a cell, and their weights.
        """
        kernel, strides = windows.kernel_of(graph, node, node.inputs[2]), windows.strides_of(node)
        height, y = graph[node.inputs[0]].shape[0], graph.outs(node)[0]
        columns = (-(-y.shape[1] // EXPANDED_OUTPUTS) * EXPANDED_OUTPUTS - 1) * strides[1] + kernel[1]
        quads = -(-columns // EXPANDED_OUTPUTS)
        if kernel[0] == 3 or (kernel == (5, 5) and strides[1] == 1):  # its border too
            height = max(height, (y.shape[0] - 1) * strides[0] + kernel[0])
        expanded = 2 * EXPANDED_CHANNELS * (height * EXPANDED_OUTPUTS * quads + kernel[0] * (2 * kernel[1] + 5))
        blocks = -(-kernel[0] // 4)
        row = 64 * blocks * ((y.shape[1] - 1) * strides[1] + kernel[1])
        cells = 336 + 272 * -(-kernel[1] * blocks // 4) + row * max(1, min(y.shape[0], MOST_CELL_BYTES // row))
        return max(min(expanded, MOST_EXPANDED_BYTES), plane_bytes(y.shape, kernel, strides), cells)

    def cost(self, graph: Graph, node: Node) -> Cost:
        kh, kw = windows.kernel_of(graph, node, node.inputs[2])
        return Cost(graph.outs(node)[0].size * kh * kw, super().cost(graph, node).bytes_moved)


@operator("depthwise_conv2d_input_gradient")
class DepthwiseConv2dInputGradient(Operator):
    """gx [H, W, C]: inputs (gy [OH, OW, C M], blocks...), attributes of the convolution and x_shape.

    A weight's scale belongs to its whole channel, so it multiplies each channel's sum once, and nothing is rounded
    before the mantissas are formed.
    """

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        kernel = graph[node.inputs[1]].shape[:2]
        if kernel[0] * kernel[1] > GRADIENT_SUM_LIMIT:
            raise refuse(node, f"gradient sums over a {kernel[0]} x {kernel[1]} window may pass 32 bits")
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, *blocks = inputs
        shape = node.attrs["x_shape"]
        factors, k = relative_scales(weight_scales(run.graph, node, node.inputs[1:]))
        w = np.concatenate(blocks, axis=2).astype(np.int64)
        terms = gy.astype(np.int64)[:, :, None, None, :] * w  # [OH, OW, KH, KW, C M]
        sums = windows.scatter(node, terms, (*shape[:2], w.shape[2])) * factors
        sums = sums.reshape(*shape, -1).sum(axis=3)
        return [run.mantissas(sums, run.exponent(node.inputs[0]) + k - 15, node.outputs[0])]

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """Each channel's exact sum is off by half a step of its 15-bit factor."""
        gy, *blocks = inputs
        shape = node.attrs["x_shape"]
        _, k = relative_scales(weight_scales(run.graph, node, node.inputs[1:]))
        w = np.concatenate(blocks, axis=2).astype(np.int64)
        terms = gy.astype(np.int64)[:, :, None, None, :] * w
        sums = np.abs(windows.scatter(node, terms, (*shape[:2], w.shape[2]))).reshape(*shape, -1).sum(axis=3)
        return super().error(run, node) + sums * run.unit(node.inputs[0]) * 2.0 ** (k - 16)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, gx = graph[node.inputs[0]], graph[node.outputs[0]]
        assert gy.exponent is not None and gx.exponent is not None and gx.exponent.state
        factors, k = relative_scales(weight_scales(graph, node, node.inputs[1:]))
        args = {
            "gy": Ref(gy.name), "gx": Ref(gx.name), "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
            "blocks": block_structs(graph, node, node.inputs[1:]), "block_count": len(node.inputs) - 1,
            "x_channels": gx.shape[2], "y_channels": gy.shape[2], "channel_multiplier": gy.shape[2] // gx.shape[2],
            **windows.window_args(node, gx.shape, gy.shape, windows.kernel_of(graph, node, node.inputs[1])),
            "factors": factors, **exponent_args("gy", gy.exponent.shifted(k - 15)),
            "gx_exponent": Ref(gx.exponent.state),
        }  # fmt: skip
        return KernelCall(kernel_for(gy, "tt_depthwise_conv2d_input_gradient"), args)

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        """What the twins keep, whichever has most.

        The gradients and weights of four channels as pairs of int16, with zeros around the gradients; a channel's
        planes of the scalar kernels; for Helium a list of a pixel's outputs, and two words of each channel.
        """
        (height, width, _), shape = graph[node.inputs[0]].shape, node.attrs["x_shape"]
        strides, padding = windows.strides_of(node), windows.padding_of(node)
        kernel = windows.kernel_of(graph, node, node.inputs[1])
        rows, columns = (-(-size // stride) for size, stride in zip(kernel, strides, strict=True))
        pairs = (columns + 1) // 2
        places = 2 * pairs - 1 + max(width, (shape[1] - 1 + padding[2]) // strides[1])
        expanded = 16 * (rows * pairs + 2 * ((places + 1) // 2) * height)
        eights = sum(-(-count // 8) for _, count in blocks_of(graph, node))
        return max(expanded, plane_bytes(shape, kernel, (1, 1)), 64 * eights + 8 * rows * columns)

    def cost(self, graph: Graph, node: Node) -> Cost:
        kh, kw = windows.kernel_of(graph, node, node.inputs[1])
        return Cost(graph[node.inputs[0]].size * kh * kw, super().cost(graph, node).bytes_moved)


@operator("depthwise_conv2d_weight_update")
class DepthwiseConv2dWeightUpdate(Operator):
    """Weight gradient of one block, and its update in the same pass: inputs (x slice, gy, hyper, targets...).

    x holds the input channels that the block reads, and no others. Attribute `multiplier` is M.
    """

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(tensor.shape, tensor.dtype) for tensor in graph.outs(node)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, gy, hyper, *targets = inputs
        (start, count), multiplier = node.attrs["block"], node.attrs["multiplier"]
        read = (start + np.arange(count)) // multiplier - start // multiplier
        centred = x.astype(np.int64)[..., read] - run.graph[node.inputs[0]].zero_point
        patches = windows.patches(node, centred, node.attrs["kernel"])
        rows = gy[..., start : start + count].astype(np.int64)
        return updated(run, node, (patches * rows[:, :, None, None, :]).sum(axis=(0, 1)), hyper, targets)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, gy = graph[node.inputs[0]], graph[node.inputs[1]]
        (start, count), multiplier = node.attrs["block"], node.attrs["multiplier"]
        args = {
            "x": Ref(x.name), "gy": Ref(gy.name), "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
            "x_zero_point": x.zero_point, "x_channels": x.shape[2], "y_channels": gy.shape[2],
            "start": start, "count": count,
            "channel_multiplier": multiplier, "first_position": start % multiplier,
            **windows.window_args(node, x.shape, gy.shape, node.attrs["kernel"]), "update": update_args(graph, node),
        }  # fmt: skip
        return KernelCall(kernel_for(gy, "tt_depthwise_conv2d_weight_update"), args)

    def cost(self, graph: Graph, node: Node) -> Cost:
        gy, target = graph[node.inputs[1]], graph.outs(node)[0]
        return Cost(gy.size // gy.shape[2] * target.size, super().cost(graph, node).bytes_moved)
