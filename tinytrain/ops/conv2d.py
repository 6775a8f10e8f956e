# SPDX-License-Identifier: Apache-2.0
"""2-D convolution, int8 weights per output channel. x [H, W, CI], w [CO, KH, KW, CI], b [CO] -> y [OH, OW, CO].

A weight may be cut into blocks, each a rectangle of output and input channels stored on its own: trained slices live in
SRAM, the rest in flash. Inputs are (x, bias, block, block, ...), attribute `blocks` gives (co, co count, ci, ci count)
of each; without it the one weight is whole. The integer sums do not depend on how a weight is cut.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytrain.graph import Graph, Node
from tinytrain.ops import arithmetic as am
from tinytrain.ops import windows
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

Block = tuple[int, int, int, int]
# so many products of a weight and an activation less its zero point fit 32 bits
SUM_LIMIT = am.INT32_MAX // (255 * 128)
# pixels and output channels that kernels expand to int16 at a time: 64 pixels, or more in so many bytes
FEWEST_PIXELS, USEFUL_PIXELS, USEFUL_BYTES, EXPANDED_OUTPUTS = 4, 64, 8192, 2
# bytes of four rows and four columns of a matrix product, of two pairs of int16
LEAST_PACKED = 64
# fours of pixels that a weight's gradient is summed over at a time, where there is no room for all
MOST_PIECES = 8
REQUANTIZATION_BYTES = 16 * EXPANDED_OUTPUTS


def blocks_of(graph: Graph, node: Node) -> list[Block]:
    """The rectangles of the weight blocks (the last inputs) of a convolution or a fully connected layer."""
    if "blocks" in node.attrs:
        return list(node.attrs["blocks"])
    shape = graph[node.inputs[-1]].shape
    return [(0, shape[0], 0, shape[-1])]


def input_channels(graph: Graph, node: Node) -> int:
    return max(start + count for _, _, start, count in blocks_of(graph, node))


def assemble(graph: Graph, node: Node, blocks: list[np.ndarray]) -> np.ndarray:
    """The whole weight [CO, KH, KW, CI] as int64."""
    rectangles = blocks_of(graph, node)
    co = max(c0 + cn for c0, cn, _, _ in rectangles)
    ci = max(i0 + count for _, _, i0, count in rectangles)
    whole = np.zeros((co, *blocks[0].shape[1:-1], ci), np.int64)
    for (c0, cn, i0, count), block in zip(rectangles, blocks, strict=True):
        whole[c0 : c0 + cn, ..., i0 : i0 + count] = block
    return whole.reshape(co, 1, 1, ci) if whole.ndim == 2 else whole


def block_structs(graph: Graph, node: Node, names: tuple[str, ...]) -> Structs:
    return Structs(
        "tt_weight_block",
        tuple(
            {"weights": Ref(name), "co_start": c0, "co_count": cn, "ci_start": i0, "ci_count": count}
            for name, (c0, cn, i0, count) in zip(names, blocks_of(graph, node), strict=True)
        ),
    )


def weight_scales(graph: Graph, node: Node, blocks: tuple[str, ...]) -> np.ndarray:
    """Real value of one weight step per output channel, float64[CO]."""
    rectangles = blocks_of(graph, node)
    scales = np.zeros(max(c0 + cn for c0, cn, _, _ in rectangles))
    for (c0, cn, _, _), name in zip(rectangles, blocks, strict=True):
        quantization = graph[name].quantization
        assert quantization is not None
        scales[c0 : c0 + cn] = quantization.scale
    return scales


def requantize_args(graph: Graph, node: Node, scales: np.ndarray) -> dict[str, Any]:
    """Multipliers from int32 sums to the output's integers; scales: of the weights, one per output channel."""
    x, y = graph[node.inputs[0]], graph[node.outputs[0]]
    multipliers, shifts = am.quantize_multipliers(x.scale * scales / y.scale)
    low, high = node.attrs["clamp"]
    return {
        "multiplier": multipliers, "shift": shifts, "x_zero_point": x.zero_point, "y_zero_point": y.zero_point,
        "clamp_low": low, "clamp_high": high, "single_rounding": int(node.attrs["rounding"] == "single"),
    }  # fmt: skip


def finish(sums: np.ndarray, bias: np.ndarray, args: dict[str, Any]) -> np.ndarray:
    """int8 outputs of exact sums [..., CO]: saturating bias addition, requantization, clamp."""
    total = am.saturate(sums + bias, am.INT32_MIN, am.INT32_MAX)
    rounding = "single" if args["single_rounding"] else "double"
    y = am.requantize(total, args["multiplier"], args["shift"], rounding) + args["y_zero_point"]
    return am.saturate(y, args["clamp_low"], args["clamp_high"]).astype(np.int8)


def relative_scales(scales: np.ndarray) -> tuple[np.ndarray, int]:
    """scales ~ factor * 2^(k - 15) with int32 factors in [0, 32768] and the largest above 16384 -> (factors, k)."""
    _, k = np.frexp(scales.max())
    return np.floor(scales / 2.0 ** int(k) * 32768 + 0.5).astype(np.int32), int(k)


def scaling_error(gy: np.ndarray) -> np.ndarray:
    """Of a mantissa times a 15-bit factor, in units of the result: half for its rounding, half a step of the factor."""
    return 0.5 + np.abs(gy.astype(np.float64)) * 2.0**-16


@operator("conv2d")
class Conv2d(Operator):
    weight_axes = (0, 3)

    def channel_axes(self, graph: Graph, node: Node) -> list[list[tuple[str, int]]]:
        x, bias, weight = node.inputs
        return [[(x, 2), (weight, 3)], [(node.outputs[0], 2), (weight, 0), (bias, 0)]]

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        x, bias, *blocks = graph.ins(node)
        rectangles = blocks_of(graph, node)
        co = max(c0 + cn for c0, cn, _, _ in rectangles)
        area = sum(cn * count for _, cn, _, count in rectangles)
        if len(x.shape) != 3 or area != co * x.shape[-1] or bias.shape != (co,):
            raise refuse(node, f"x {list(x.shape)}, weights of {area} channel pairs, bias {list(bias.shape)}")
        kernel = blocks[0].shape[1:3]
        if kernel[0] * kernel[1] * x.shape[-1] > SUM_LIMIT:
            raise refuse(node, "a sum of this many products may pass 32 bits", "split the layer")
        return [((*windows.output_size(node, x.shape, kernel), co), "int8")]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, bias, *blocks = inputs
        args = requantize_args(run.graph, node, weight_scales(run.graph, node, node.inputs[2:]))
        w = assemble(run.graph, node, blocks)
        patches = windows.patches(node, x.astype(np.int64) - args["x_zero_point"], w.shape[1:3])
        return [finish(np.tensordot(patches, w, ((2, 3, 4), (1, 2, 3))), bias.astype(np.int64), args)]

    def floating(self, graph: Graph, node: Node, *inputs: Any) -> Any:
        from torch.nn import functional as F

        x, bias, weight = inputs
        image, padding = windows.channels_first(node, x)
        return F.conv2d(
            image, weight.permute(0, 3, 1, 2), bias, windows.strides_of(node), padding
        ).permute(0, 2, 3, 1)  # fmt: skip

    def gradient(self, build: TrainingBuilder, node: Node, gy: str, wanted: bool) -> list[str | None]:
        gy = build.masked(node, gy)
        gx = None
        if wanted:
            attrs = {
                **node.attrs, "blocks": tuple(blocks_of(build.graph, node)),
                "x_shape": build.graph[node.inputs[0]].shape,
            }  # fmt: skip
            gx = build.gradient("conv2d_input_gradient", node, "gx", [gy, *node.inputs[2:]], **attrs)
        kernel = windows.kernel_of(build.graph, node, node.inputs[2])
        add_updates(build, node, gy, "conv2d_weight_update", blocks_of(build.graph, node), kernel)
        return [gx]

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, y = graph[node.inputs[0]], graph[node.outputs[0]]
        image = windows.image_shape(x.shape, input_channels(graph, node))
        return KernelCall(
            "tt_conv2d_s8",
            {
                "x": Ref(x.name), "bias": Ref(node.inputs[1]), "y": Ref(y.name),
                "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
                "blocks": block_structs(graph, node, node.inputs[2:]), "block_count": len(node.inputs) - 2,
                "x_channels": image[2], "y_channels": y.shape[-1],
                **windows.window_args(node, image, y.shape, windows.kernel_of(graph, node, node.inputs[2])),
                **requantize_args(graph, node, weight_scales(graph, node, node.inputs[2:])),
            },
        )  # fmt: skip

    def scratch(self, graph: Graph, node: Node) -> int:
        return max(self._expanded(graph, node, FEWEST_PIXELS), worthwhile_scratch(self, graph, node))

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        """Tiles of useful size, as even as they can be."""
        y = graph.outs(node)[0]
        row = self._expanded_row(graph, node)
        pixels = max(FEWEST_PIXELS, y.size // y.shape[-1])
        tiles = round(pixels / max(USEFUL_PIXELS, USEFUL_BYTES // row))
        if tiles > 1:
            pixels = -(-pixels // (tiles * FEWEST_PIXELS)) * FEWEST_PIXELS
        return self._expanded(graph, node, pixels)

    def _expanded(self, graph: Graph, node: Node, pixels: int) -> int:
        """Bytes for the inputs of these pixels and the weights of some outputs.

        Weights are read where they lie if each output's are whole words in one block, else first put in a row.
        """
        row = self._expanded_row(graph, node)
        kh, kw = windows.kernel_of(graph, node, node.inputs[2])
        outputs, inputs = graph.outs(node)[0].shape[-1], kh * kw * input_channels(graph, node)
        whole = len(node.inputs) == 3 and outputs >= EXPANDED_OUTPUTS and inputs % 4 == 0
        return (pixels + EXPANDED_OUTPUTS) * row + (0 if whole else row // 2) + REQUANTIZATION_BYTES

    def _expanded_row(self, graph: Graph, node: Node) -> int:
        """Bytes of the inputs of one output as int16."""
        kh, kw = windows.kernel_of(graph, node, node.inputs[2])
        return 2 * (-(-kh * kw * input_channels(graph, node) // 8) * 8)

    def cost(self, graph: Graph, node: Node) -> Cost:
        macs = graph.outs(node)[0].size // graph.outs(node)[0].shape[-1] * sum(t.size for t in graph.ins(node)[2:])
        return Cost(macs, super().cost(graph, node).bytes_moved)


@operator("conv2d_input_gradient")
class Conv2dInputGradient(Operator):
    """gx [H, W, CI] of a convolution: inputs (gy [OH, OW, CO], blocks...), its attributes and x_shape."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(node.attrs["x_shape"], graph[node.inputs[0]].dtype)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        gy, *blocks = inputs
        w = assemble(run.graph, node, blocks)
        factors, k = relative_scales(weight_scales(run.graph, node, node.inputs[1:]))
        spare = am.spare_bits(gy.dtype)
        scaled = am.rounding_shift(windows.as_image(gy).astype(np.int64) * factors, 15 - spare)
        terms = np.tensordot(scaled, w, ((2,), (0,)))  # [OH, OW, KH, KW, CI]
        shape = node.attrs["x_shape"]
        image = windows.image_shape(shape, input_channels(run.graph, node))
        sums = windows.scatter(node, terms, image).reshape(shape)
        return [run.mantissas(sums, run.exponent(node.inputs[0]) + k - spare, node.outputs[0])]

    def error(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> Any:
        """Each product of a weight with a scaled gradient is off by that gradient's rounding."""
        gy, *blocks = inputs
        _, k = relative_scales(weight_scales(run.graph, node, node.inputs[1:]))
        w = np.abs(assemble(run.graph, node, blocks)).astype(np.float64)
        terms = np.tensordot(scaling_error(windows.as_image(gy)), w, ((2,), (0,)))
        shape = node.attrs["x_shape"]
        sums = windows.scatter(node, terms, windows.image_shape(shape, input_channels(run.graph, node)))
        return super().error(run, node) + sums.reshape(shape) * run.unit(node.inputs[0]) * 2.0**k

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        gy, gx = graph[node.inputs[0]], graph[node.outputs[0]]
        assert gy.exponent is not None and gx.exponent is not None and gx.exponent.state
        factors, k = relative_scales(weight_scales(graph, node, node.inputs[1:]))
        image = windows.image_shape(gx.shape, input_channels(graph, node))
        return KernelCall(
            kernel_for(gy, "tt_conv2d_input_gradient"),
            {
                "gy": Ref(gy.name), "gx": Ref(gx.name), "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
                "blocks": block_structs(graph, node, node.inputs[1:]), "block_count": len(node.inputs) - 1,
                "x_channels": image[2], "y_channels": gy.shape[-1],
                **windows.window_args(node, image, gy.shape, windows.kernel_of(graph, node, node.inputs[1])),
                "factors": factors, **exponent_args("gy", gy.exponent.shifted(k - am.spare_bits(gy.dtype))),
                "gx_exponent": Ref(gx.exponent.state),
            },
        )  # fmt: skip

    def scratch(self, graph: Graph, node: Node) -> int:
        gy = windows.image_shape(graph[node.inputs[0]].shape)
        kh, kw = windows.kernel_of(graph, node, node.inputs[1])
        return max(LEAST_PACKED, 2 * gy[2] * kh * kw)  # the scaled gradients that reach one pixel of x

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        """A tile of pixels, each with the gradients that reach it and a few words, and the weights of some inputs."""
        gy = windows.image_shape(graph[node.inputs[0]].shape)
        pixels = windows.image_shape(node.attrs["x_shape"])
        reach = math.prod(
            -(-size // stride)
            for size, stride in zip(
                windows.kernel_of(graph, node, node.inputs[1]), windows.strides_of(node), strict=True
            )
        )
        expanded = 2 * (-(-gy[2] // 8) * 8) * reach
        tile = min(USEFUL_PIXELS, -(-pixels[0] * pixels[1] // 4) * 4)
        return max(2 * self.scratch(graph, node), tile * (28 + expanded) + 4 * expanded)

    def cost(self, graph: Graph, node: Node) -> Cost:
        gy = graph[node.inputs[0]]
        macs = gy.size // gy.shape[-1] * sum(graph[name].size for name in node.inputs[1:])
        return Cost(macs, super().cost(graph, node).bytes_moved)


@operator("conv2d_weight_update")
class Conv2dWeightUpdate(Operator):
    """Weight gradient of one block, and its update in the same pass: inputs (x slice, gy, hyper, targets...)."""

    def infer(self, graph: Graph, node: Node) -> list[tuple[tuple[int, ...], str]]:
        return [(tensor.shape, tensor.dtype) for tensor in graph.outs(node)]

    def reference(self, run: Evaluation, node: Node, *inputs: np.ndarray) -> list[np.ndarray]:
        x, gy, hyper, *targets = inputs
        co_start, co_count, _, ci_count = node.attrs["block"]
        centred = windows.as_image(x, ci_count).astype(np.int64) - run.graph[node.inputs[0]].zero_point
        patches = windows.patches(node, centred, node.attrs["kernel"])
        rows = windows.as_image(gy)[..., co_start : co_start + co_count].astype(np.int64)
        sums = np.tensordot(rows, patches, ((0, 1), (0, 1))).reshape(run.graph.outs(node)[0].shape)
        return updated(run, node, sums, hyper, targets)

    def lower(self, graph: Graph, node: Node) -> KernelCall:
        x, gy = graph[node.inputs[0]], graph[node.inputs[1]]
        co_start, co_count, _, ci_count = node.attrs["block"]
        image = windows.image_shape(x.shape, ci_count)
        return KernelCall(
            kernel_for(gy, "tt_conv2d_weight_update"),
            {
                "x": Ref(x.name), "gy": Ref(gy.name), "scratch": Scratch(), "scratch_bytes": ScratchBytes(),
                "x_zero_point": x.zero_point, "x_channels": ci_count,
                "y_channels": gy.shape[-1], "co_start": co_start, "co_count": co_count,
                **windows.window_args(node, image, gy.shape, node.attrs["kernel"]), "update": update_args(graph, node),
            },
        )  # fmt: skip

    def scratch(self, graph: Graph, node: Node) -> int:
        return self._packed(graph, node, 2, MOST_PIECES)

    def scratch_wanted(self, graph: Graph, node: Node) -> int:
        sums = 24 * int(node.attrs["block"][1]) + 16  # of six input channels
        return max(self._packed(graph, node, node.attrs["block"][3]), sums)

    def _packed(self, graph: Graph, node: Node, inputs: int, most: int | None = None) -> int:
        """Bytes of the gradients of four output channels, and of inputs, by fours of pixels; rows may end with half."""
        height, width, _ = windows.image_shape(graph[node.inputs[1]].shape)
        pixels = height * width if node.attrs["kernel"] == (1, 1) else height * (width + 1)
        fours = -(-pixels // 4)
        return 8 * (4 + -(-inputs // 2) * 2) * min(fours, most or fours)

    def cost(self, graph: Graph, node: Node) -> Cost:
        gy, target = graph[node.inputs[1]], graph.outs(node)[0]
        return Cost(gy.size // gy.shape[-1] * target.size, super().cost(graph, node).bytes_moved)
