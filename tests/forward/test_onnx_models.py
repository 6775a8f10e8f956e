# SPDX-License-Identifier: Apache-2.0
"""The forward arithmetic of real ONNX QDQ files: every layer, fed onnxruntime's own input, is within one step of it.

Where a layer differs by one step, onnxruntime's float32 result lies within float error of the middle between two
integers, or is that middle: onnxruntime rounds a tie to the even integer, the integer arithmetic away from zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.forward.inputs import samples
from tinytrain.frontends import load_model
from tinytrain.graph import Graph
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


@pytest.mark.parametrize("model", ["mcunet-5fps", "mbv2-w0.35"])
def test_every_layer_is_within_one_step_of_onnxruntime(model: str, shared: Path) -> None:
    path = shared / f"data/models/mcu_models/{model}.onnx"
    graph = load_model(path)
    differing = elements = 0
    for x in samples(shared, graph[graph.inputs[0]].shape, 2):
        expected = layer_values(path, graph, x)
        assert np.array_equal(expected[graph.inputs[0]], x)
        for node in graph.nodes:
            (output,) = node.outputs
            if output not in expected:
                continue
            run = Evaluation(graph, {**initial_values(graph), **expected})
            (got,) = lookup(node.op).reference(run, node, *(run.values[name] for name in node.inputs))
            steps = np.abs(got.astype(int) - expected[output])
            assert steps.max() <= 1, f"{node.name}: {steps.max()} steps from onnxruntime"
            differing += int(np.count_nonzero(steps))
            elements += steps.size
    assert differing <= elements * 2e-4, f"{differing} of {elements} integers differ by one"


def test_biases_near_the_end_of_32_bits_are_kept(shared: Path) -> None:
    """mcunet-5fps: sum + bias can pass 32 bits there; the test above shows that such a channel does not wrap."""
    graph = load_model(shared / "data/models/mcu_models/mcunet-5fps.onnx")
    biases = [tensor.data for tensor in graph.tensors.values() if tensor.dtype == "int32" and tensor.data is not None]
    assert max(int(np.abs(data.astype(np.int64)).max()) for data in biases) > 2**31 - 2**24
