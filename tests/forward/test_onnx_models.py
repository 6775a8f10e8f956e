# SPDX-License-Identifier: Apache-2.0
"""The forward arithmetic of real ONNX QDQ files: every layer, fed onnxruntime's own input, is within one step of it.

Why not always 0: an ONNX convolution is requantized as TFLite does it, which rounds twice (to 2^-k of a step, then to a
step), so a result less than 2^-(k+1) below the middle between two integers may go up. With one rounding, only a few in
a million differ: those where float32, in which onnxruntime computes, is not exact enough. A mean rounds twice as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.forward.inputs import samples
from tinytrain.frontends import load_model
from tinytrain.graph import Graph, Node
from tinytrain.ops import Evaluation, initial_values, lookup

pytestmark = pytest.mark.shared


def layer_values(path: Path, graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """onnxruntime's integers of every quantized tensor, in the graph's layout."""
    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    tensor = graph[graph.inputs[0]]
    fed = ((x.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32).transpose(2, 0, 1)[None]
    results = session.run(names, {session.get_inputs()[0].name: fed})
    return {name: value[0].transpose(1, 2, 0) for name, value in zip(names, results, strict=True)}


def steps_apart(graph: Graph, node: Node, expected: dict[str, np.ndarray]) -> np.ndarray:
    """Distance of a node's integers from onnxruntime's, where it reads onnxruntime's."""
    run = Evaluation(graph, {**initial_values(graph), **expected})
    (got,) = lookup(node.op).reference(run, node, *(run.values[name] for name in node.inputs))
    return np.abs(got.astype(int) - expected[node.outputs[0]])


@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35"])
def test_every_layer_is_within_one_step_of_onnxruntime(model: str, shared: Path) -> None:
    path = shared / f"data/models/mcu_models/{model}.onnx"
    graph = load_model(path)
    differing = rounded_once = elements = 0
    for x in samples(shared, graph[graph.inputs[0]].shape, 2):
        expected = layer_values(path, graph, x)
        assert np.array_equal(expected[graph.inputs[0]], x)
        for node in graph.nodes:
            if node.outputs[0] not in expected:
                continue
            steps = steps_apart(graph, node, expected)
            assert steps.max() <= 1, f"{node.name}: {steps.max()} steps from onnxruntime"
            if "rounding" in node.attrs:
                differing += int(np.count_nonzero(steps))
                once = steps_apart(graph, node.with_attrs(rounding="single"), expected)
                rounded_once += int(np.count_nonzero(once))
                elements += steps.size
            elif node.op == "add":
                assert not steps.any(), node.name
    assert differing < 0.005 * elements, f"{differing} of {elements} integers differ by one"
    assert rounded_once < 5e-6 * elements, (
        f"{rounded_once} of {elements} integers differ by one without the second rounding"
    )


def test_biases_near_the_end_of_32_bits_are_kept(shared: Path) -> None:
    """mcunet-5fps: sum + bias can pass 32 bits there; the test above shows that such a channel does not wrap."""
    graph = load_model(shared / "data/models/mcu_models/mcunet-5fps.onnx")
    biases = [tensor.data for tensor in graph.tensors.values() if tensor.dtype == "int32" and tensor.data is not None]
    assert max(int(np.abs(data.astype(np.int64)).max()) for data in biases) > 2**31 - 2**24
