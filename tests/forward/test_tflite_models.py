# SPDX-License-Identifier: Apache-2.0
"""The forward arithmetic of real .tflite files: every tensor has the bytes of LiteRT's reference kernels."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tflite as schema

from tests.forward.inputs import samples
from tests.frontends.oracles import assert_equals_litert, random_input
from tinytrain.frontends import load_model

pytestmark = pytest.mark.shared

# model -> how many of the graph's tensors LiteRT knows by the same name, and how many samples are tried
MODELS = {
    "mlperf_tiny/ad01_int8": (11, 5),
    "mlperf_tiny/ic_resnet8_int8": (17, 3),
    "mlperf_tiny/kws_dscnn_int8": (14, 5),
    "mlperf_tiny/str_ww_int8": (12, 3),
    "mlperf_tiny/vww_96_int8": (32, 3),
    "tinyengine/mcunet_vww_int8": (58, 3),
    "tinyengine/mcunetv2_large_int8": (157, 1),
    "tflm/hello_world_int8": (4, 3),
    "tflm/micro_speech_quantized": (5, 5),
    "tflm/mobilenet_v2_1.0_224_int8": (66, 1),
    "tflm/person_detect": (32, 3),
}


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_equals_litert(model: str, shared: Path) -> None:
    path = shared / f"data/models/{model}.tflite"
    tensors, count = MODELS[model]
    graph = load_model(path)
    content = without_bias_axis(path.read_bytes())
    shape = graph[graph.inputs[0]].shape
    for x in [*samples(shared, shape, count), random_input(graph)]:
        assert assert_equals_litert(content, graph, x) == tensors


def without_bias_axis(content: bytes) -> bytes:
    """LiteRT refuses a bias whose quantized_dimension is not 0, as in person_detect; nothing reads that field."""
    changed = bytearray(content)
    graph = schema.Model.GetRootAs(changed, 0).Subgraphs(0)
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        quantization = tensor.Quantization()
        if tensor.Type() == schema.TensorType.INT32 and quantization and quantization.QuantizedDimension():
            place = quantization._tab.Pos + quantization._tab.Offset(16)
            struct.pack_into("<i", changed, place, 0)
    return bytes(changed)


def test_saturated_inputs_equal_litert(shared: Path) -> None:
    path = shared / "data/models/mlperf_tiny/ic_resnet8_int8.tflite"
    graph = load_model(path)
    for value in (-128, 127):
        assert_equals_litert(path.read_bytes(), graph, np.full(graph[graph.inputs[0]].shape, value, np.int8))
