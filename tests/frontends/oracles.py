# SPDX-License-Identifier: Apache-2.0
"""Independent implementations that loaded models are compared with: LiteRT's reference kernels, and onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinytrain.frontends import load_model
from tinytrain.graph import Graph, Role
from tinytrain.ops import evaluate


def load_content(content: bytes, folder: Path, name: str) -> Graph:
    path = folder / name
    path.write_bytes(content)
    return load_model(path)


def random_input(graph: Graph, seed: int = 0) -> np.ndarray:
    shape = graph[graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def litert_tensors(content: bytes, x: np.ndarray, graph: Graph) -> dict[str, np.ndarray]:
    """Every int8 tensor of LiteRT's run of the model; x is the graph's input (HWC, no batch)."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    if graph.attrs["input_layout"] == "CHW":
        x = x.transpose(2, 0, 1)
    fed = x.reshape(detail["shape"])
    if detail["dtype"] == np.float32:
        tensor = graph[graph.inputs[0]]
        fed = ((fed.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)
    interpreter.set_tensor(detail["index"], fed)
    interpreter.invoke()
    return {
        tensor["name"]: interpreter.get_tensor(tensor["index"])
        for tensor in interpreter.get_tensor_details()
        if tensor["name"] and tensor["dtype"] == np.int8
    }


def assert_equals_litert(content: bytes, graph: Graph, x: np.ndarray) -> int:
    """Every activation of the graph has LiteRT's bytes; returns how many tensors were compared."""
    expected = litert_tensors(content, x, graph)
    values = evaluate(graph, {graph.inputs[0]: x})
    compared = 0
    for name, tensor in graph.tensors.items():
        if tensor.role is not Role.ACTIVATION or name not in expected or expected[name].size != tensor.size:
            continue
        got, want = values[name].reshape(-1), expected[name].reshape(-1)
        different = np.flatnonzero(got != want)
        assert not len(different), (
            f"{name} {list(tensor.shape)}: {len(different)} of {got.size} elements differ, "
            f"element {different[0]} is {got[different[0]]}, LiteRT says {want[different[0]]}"
        )
        compared += 1
    assert graph.outputs[0] in expected or compared, "no tensor of the graph has a name that LiteRT knows"
    return compared


def onnxruntime_output(content: bytes, x: np.ndarray, graph: Graph) -> np.ndarray:
    """The int8 output of onnxruntime's run, in the graph's layout; x is the graph's input."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    tensor = graph[graph.inputs[0]]
    fed = x.transpose(2, 0, 1) if graph.attrs["input_layout"] == "CHW" else x
    fed = fed.reshape([extent if isinstance(extent, int) else 1 for extent in given.shape])
    if given.type == "tensor(float)":
        fed = ((fed.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)
    elif given.type == "tensor(uint8)":
        fed = (fed.astype(np.int16) + 128).astype(np.uint8)
    (y,) = session.run(None, {given.name: fed})
    result = graph[graph.outputs[0]]
    steps = np.rint(y / np.float32(result.scale)).astype(int) + result.zero_point
    if len(result.shape) == 3 and steps.ndim == 4:
        steps = steps[0].transpose(1, 2, 0)
    return steps.reshape(result.shape)


def assert_near_onnxruntime(content: bytes, graph: Graph, x: np.ndarray) -> None:
    """Every integer of the output is within one step of onnxruntime's."""
    expected = onnxruntime_output(content, x, graph)
    got = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]].astype(int)
    worst = np.abs(got - expected)
    first = np.unravel_index(int(worst.argmax()), worst.shape)
    assert worst.max() <= 1, f"{first}: {got[first]}, onnxruntime says {expected[first]}"
