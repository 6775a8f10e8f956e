# SPDX-License-Identifier: Apache-2.0
"""Models as onnxruntime's own quantizer writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tests.frontends.onnx_file import OnnxFile
from tests.frontends.oracles import onnxruntime_output, random_input
from tinytrain.frontends import load_model
from tinytrain.ops import evaluate

rng = np.random.default_rng(3)


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = 8

    def get_next(self) -> dict[str, np.ndarray] | None:
        self.left -= 1
        return {"input": rng.normal(0, 1, (1, 3, 16, 16)).astype(np.float32)} if self.left >= 0 else None


def float_model(matmul: bool, softmax: bool) -> onnx.ModelProto:
    file = OnnxFile(("batch", 3, 16, 16))

    def real(*shape: int) -> str:
        return file.constant(rng.normal(0, 0.3, shape).astype(np.float32))

    x = file.node("Relu", [file.node("Conv", ["input", real(8, 3, 3, 3), real(8)], pads=[1] * 4, strides=[2, 2])])
    y = file.node("Conv", [x, real(8, 1, 3, 3), real(8)], pads=[1] * 4, group=8)
    y = file.node("Clip", [y, file.constant(np.float32(0)), file.constant(np.float32(6))])
    y = file.node("Relu", [file.node("Add", [x, file.node("Conv", [y, real(8, 8, 1, 1), real(8)])])])
    y = file.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])
    y = file.node("Flatten", [file.node("AveragePool", [y], kernel_shape=[2, 2], strides=[2, 2])])
    if matmul:
        y = file.node("Add", [file.node("MatMul", [y, real(32, 10)]), real(10)])
    else:
        y = file.node("Gemm", [y, real(10, 32), real(10)], transB=1)
    model = file.model(file.node("Softmax", [y]) if softmax else y)
    for extent in ({"dim_param": "batch"}, {"dim_value": 10}):
        model.graph.output[0].type.tensor_type.shape.dim.add(**extent)
    return model


@pytest.mark.parametrize("activation", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(("matmul", "softmax"), [(True, False), (False, True)])
def test_quantized_model_agrees_with_onnxruntime(
    matmul: bool, softmax: bool, per_channel: bool, activation: QuantType, tmp_path: Path
) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "model.onnx"
    onnx.save(float_model(matmul, softmax), source)
    quantize_static(
        source, target, Calibration(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        activation_type=activation, weight_type=QuantType.QInt8,
    )  # fmt: skip
    graph = load_model(target)
    for seed in range(3):
        x = random_input(graph, seed)
        got = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]].astype(int)
        # each layer is within one step; over the whole network a few add up
        assert np.abs(got - onnxruntime_output(target.read_bytes(), x, graph)).max() <= 3
