# SPDX-License-Identifier: Apache-2.0
"""Real model files: which operators they become, and why others are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tinytrain.errors import ModelError
from tinytrain.frontends import load_model

pytestmark = pytest.mark.shared

# file -> (input shape, layout in the file, output elements, operators)
LOADED = {
    "mcu_models/mcunet-5fps.onnx": (
        (128, 128, 3), "CHW", 1000, {"conv2d": 29, "depthwise_conv2d": 14, "add": 7, "mean": 1, "reshape": 1},
    ),
    "mcu_models/mbv2-w0.35.onnx": (
        (128, 128, 3), "CHW", 1000, {"conv2d": 35, "depthwise_conv2d": 17, "add": 10, "mean": 1, "reshape": 1},
    ),
    "mlperf_tiny/vww_96_int8.tflite": (
        (96, 96, 3), "HWC", 2,
        {"conv2d": 14, "depthwise_conv2d": 13, "average_pool2d": 1, "reshape": 1, "fully_connected": 1, "softmax": 1},
    ),
    "mlperf_tiny/ic_resnet8_int8.tflite": (
        (32, 32, 3), "HWC", 10,
        {"conv2d": 9, "add": 3, "average_pool2d": 1, "reshape": 1, "fully_connected": 1, "softmax": 1},
    ),
    "mlperf_tiny/kws_dscnn_int8.tflite": (
        (49, 10, 1), "HWC", 12,
        {"conv2d": 5, "depthwise_conv2d": 4, "average_pool2d": 1, "reshape": 1, "fully_connected": 1, "softmax": 1},
    ),
    "mlperf_tiny/ad01_int8.tflite": ((640,), "HWC", 640, {"fully_connected": 10}),
    "tinyengine/mcunet_vww_int8.tflite": (
        (80, 80, 3), "HWC", 2,
        {"conv2d": 30, "depthwise_conv2d": 15, "add": 8, "transpose": 1, "mean": 2, "fully_connected": 1},
    ),
    "tinyengine/mcunetv2_large_int8.tflite": (
        (224, 224, 3), "HWC", 1000,
        {
            "conv2d": 61, "depthwise_conv2d": 16, "mean": 28, "add": 23, "mul": 26, "transpose": 1,
            "fully_connected": 1,
        },
    ),
    "tflm/person_detect.tflite": (
        (96, 96, 1), "HWC", 2,
        {"conv2d": 14, "depthwise_conv2d": 14, "average_pool2d": 1, "reshape": 1, "softmax": 1},
    ),
    "tflm/micro_speech_quantized.tflite": (
        (1960,), "HWC", 4, {"reshape": 1, "depthwise_conv2d": 1, "fully_connected": 1, "softmax": 1},
    ),
    "tflm/mobilenet_v2_1.0_224_int8.tflite": (
        (224, 224, 3), "CHW", 1000,
        {"conv2d": 35, "depthwise_conv2d": 17, "add": 10, "mean": 1, "reshape": 1, "fully_connected": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", LOADED)
def test_model_loads(model: str, shared: Path) -> None:
    shape, layout, outputs, operators = LOADED[model]
    graph = load_model(shared / "data/models" / model)
    assert graph[graph.inputs[0]].shape == shape
    assert graph.attrs["input_layout"] == layout
    assert graph[graph.outputs[0]].size == outputs
    assert Counter(node.op for node in graph.nodes) == operators


REFUSED = {
    "tflm/mnist_lstm_int8.tflite": ("UNIDIRECTIONAL_SEQUENCE_LSTM", "node 0"),
    "tflm/audio_preprocessor_int8.tflite": ("CUSTOM SignalWindow", "18 operators", "CAST (4)"),
    "tflm/hello_world_float.tflite": ("float model",),
    "mlperf_tiny/vww_96_float.tflite": ("float model",),
    "tinyengine/detection_int8.tflite": ("RESIZE_NEAREST_NEIGHBOR", "node 37"),
}


@pytest.mark.parametrize("model", REFUSED)
def test_model_is_refused(model: str, shared: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(shared / "data/models" / model)
    message = str(caught.value)
    assert all(part in message for part in (*REFUSED[model], Path(model).name)), message
    assert caught.value.fix
