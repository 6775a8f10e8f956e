# SPDX-License-Identifier: Apache-2.0
"""The table of models: does it load, is the forward part equal, does it train, what does it take.

python benchmarks/models.py [--write] [NAME ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from common import MODELS, SHARED, model_path, publish, table

from tinytrain.frontends import load_model
from tinytrain.graph import Graph, Phase
from tinytrain.host import Machine
from tinytrain.memory import lay_out
from tinytrain.program import Program, Space, lower
from tinytrain.train import LayerUpdate, Scheme, Slice, all_weights, load_scheme, trainable_layers, training_graph

CLASSES = 10  # of the new classifier, where the model's own has more
EXTRA = 49 * 1024  # bytes a "49 KB-class" scheme may add to the classifier alone


def main() -> None:
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")] or MODELS
    rows = [row(name) for name in MODELS if name in wanted]
    columns = (
        "model",
        "loads",
        "forward equals",
        "classes",
        "MACs",
        "SRAM head only",
        "SRAM 49 KB class",
        "SRAM all weights",
        "trains",
    )
    publish("models", table(columns, rows))


def row(name: str) -> list[str]:
    path = model_path(name)
    graph = load_model(path)
    own = graph[graph.outputs[0]].size
    classes = None if own <= CLASSES + 2 else CLASSES
    schemes = [scheme.but(classes=classes) for scheme in (Scheme(), small_scheme(name, graph), all_weights(graph))]
    programs = [program_of(graph, scheme) for scheme in schemes]
    macs = sum(row.macs for row in programs[0].rows if row.phase is Phase.FORWARD)
    sizes = [f"{sram_of(program):,}" for program in programs]
    return [path.stem, "yes", forward_check(path, graph), str(classes or own), f"{macs:,}", *sizes, trains(programs[2])]


def program_of(graph: Graph, scheme: Scheme) -> Program:
    training = training_graph(graph, scheme)
    return lower(training, lay_out(training))


def sram_of(program: Program) -> int:
    """Arena and everything persistent; stack and statics, some 1,000 bytes, depend on the board."""
    return sum(size for space, size in program.sizes.items() if space is not Space.CONSTANTS)


def small_scheme(name: str, graph: Graph) -> Scheme:
    """The published 49 KB scheme where there is one; else biases and whole weights from the end, while they fit."""
    key = f"{Path(name).stem}/49kb"
    if name.startswith("mcu_models/"):
        return load_scheme(SHARED / "models" / "mcu_models" / "sparse_update_schemes.json", graph, key)
    limit = sram_of(program_of(graph, Scheme())) + EXTRA
    scheme = Scheme()
    for node in reversed(trainable_layers(graph)):
        for update in (LayerUpdate(True), LayerUpdate(True, Slice("all"))):
            candidate = scheme.but(layers={**scheme.layers, node.name: update})
            if sram_of(program_of(graph, candidate)) <= limit:
                scheme = candidate
    return scheme


def forward_check(path: Path, graph: Graph) -> str:
    """Our output bytes against LiteRT's reference kernels, or against onnxruntime, on 4 random inputs."""
    layout = lay_out(graph)
    machine = Machine(lower(graph, layout))
    tensor = graph[graph.inputs[0]]
    rng = np.random.default_rng(0)
    samples = rng.integers(-128, 128, (4, *tensor.shape)).astype(np.int8)
    ours = np.stack([machine.infer(sample).reshape(-1) for sample in samples])
    try:
        theirs = (onnxruntime_outputs if path.suffix == ".onnx" else litert_outputs)(path, graph, samples)
    except ValueError:
        return "LiteRT refuses the file"
    different = np.abs(ours.astype(int) - theirs.astype(int))
    peer = "onnxruntime" if path.suffix == ".onnx" else "LiteRT"
    return (
        f"{peer}, all {ours.size} bytes"
        if not different.any()
        else f"{peer}, within {different.max()}, {np.mean(different > 0):.1%} differ"
    )


def litert_outputs(path: Path, graph: Graph, samples: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for sample in samples:
        value = sample.transpose(2, 0, 1) if graph.attrs.get("input_layout") == "CHW" else sample
        if source["dtype"] == np.float32:
            tensor = graph[graph.inputs[0]]
            value = (value.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
        interpreter.set_tensor(
            source["index"], np.ascontiguousarray(value).reshape(source["shape"]).astype(source["dtype"])
        )
        interpreter.invoke()
        outputs.append(quantized(interpreter.get_tensor(target["index"]), graph))
    return np.stack(outputs)


def onnxruntime_outputs(path: Path, graph: Graph, samples: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    tensor = graph[graph.inputs[0]]
    outputs = []
    for sample in samples:
        real = (sample.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
        image = np.ascontiguousarray(real.transpose(2, 0, 1)[None])
        outputs.append(quantized(session.run(None, {session.get_inputs()[0].name: image})[0], graph))
    return np.stack(outputs)


def quantized(output: np.ndarray, graph: Graph) -> np.ndarray:
    """A peer's output as our output's integers."""
    if output.dtype == np.float32:
        tensor = graph[graph.outputs[0]]
        output = np.round(output / np.float32(tensor.scale)) + tensor.zero_point
    return output.reshape(-1)


def trains(program: Program, steps: int = 8) -> str:
    """Every weight trained on one random sample: its loss must fall, at one of these rates."""
    machine = Machine(program)
    tensor = program.tensors[program.input]
    sample = np.random.default_rng(0).integers(-128, 128, tensor.shape).astype(np.int8)
    for power in (-12, -4, 4, 12, 20, 28):
        machine.reset()
        machine.set_learning_rate(2.0**power)
        losses = [machine.train_step(sample, 1)[0] for _ in range(steps)]
        if losses[-1] < losses[0] - 0.01:
            return f"yes, loss {losses[0]:.2f} to {losses[-1]:.2f} at rate 2^{power}"
    return f"NO, loss {losses[0]:.2f} to {losses[-1]:.2f}"


if __name__ == "__main__":
    main()
