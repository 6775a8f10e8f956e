# SPDX-License-Identifier: Apache-2.0
"""Rewrites that make a freshly read graph smaller without changing a byte of its output."""

from __future__ import annotations

from tinytrain.graph import Graph, Node


def drop_unread_nodes(graph: Graph) -> None:
    """Forget nodes that no output depends on."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


def fold_input_transpose(graph: Graph) -> None:
    """An image that enters as CHW and is turned to HWC at once: the graph takes HWC."""
    (name,) = graph.inputs
    readers = graph.consumers()[name]
    if len(readers) != 1 or name in graph.outputs:
        return
    (node,) = readers
    if node.op == "transpose" and node.attrs["perm"] == (1, 2, 0):
        graph.nodes.remove(node)
        graph.inputs = [node.outputs[0]]
        graph.attrs["input_layout"] = "CHW"


def fold_pads(graph: Graph) -> None:
    """A pad of height and width that only one convolution reads becomes that convolution's own padding.

    Same bytes: a padded cell holds the zero point, and a convolution's own padding adds nothing to its sums. The padded
    copy of the image never exists.
    """
    producers, consumers = graph.producers(), graph.consumers()
    for index, node in enumerate(graph.nodes):
        if node.op not in ("conv2d", "depthwise_conv2d"):
            continue
        pad = producers.get(node.inputs[0])
        if pad is None or pad.op != "pad" or pad.outputs[0] in graph.outputs or len(consumers[pad.outputs[0]]) != 1:
            continue
        if len(pad.attrs["padding"]) != 3 or pad.attrs["padding"][2] != (0, 0):
            continue
        rows, columns, _ = pad.attrs["padding"]
        padding = tuple(a + b for a, b in zip((*rows, *columns), node.attrs["padding"], strict=True))
        graph.nodes[index] = node.with_attrs(padding=padding).but(inputs=(pad.inputs[0], *node.inputs[1:]))
    drop_unread_nodes(graph)
