# SPDX-License-Identifier: Apache-2.0
"""LiteRT's reference kernels on single operators: the independent oracle of the forward arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.frontends.tflite_file import TfliteFile
from tests.oracle import activation, assert_machines_equal_oracle, assert_same, one_node
from tinytrain.graph import Quantization

Meaning = tuple[float, int]  # scale, zero point


def litert(
    code: str, values: Sequence[tuple[np.ndarray, Meaning]], shape: Sequence[int], meaning: Meaning,
    constants: Sequence[np.ndarray] = (), **options: Any,
) -> np.ndarray:  # fmt: skip
    """The output of one int8 operator; `constants` are further inputs."""
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    file = TfliteFile()
    inputs = [file.tensor(value.shape, *quantization) for value, quantization in values]
    inputs += [file.constant(constant) for constant in constants]
    y = file.tensor(shape, *meaning)
    file.op(code, inputs, [y], **options)
    interpreter = interpreters.Interpreter(
        model_content=file.content(inputs[: len(values)], [y]),
        experimental_op_resolver_type=interpreters.OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    for detail, (value, _) in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def forward(
    op: str, values: Sequence[tuple[np.ndarray, Meaning]], meaning: Meaning, attrs: Mapping[str, Any]
) -> np.ndarray:
    """The output of the oracle, after the C kernel has given the same."""
    names = [chr(ord("a") + index) for index in range(len(values))]
    inputs = {
        name: activation(name, value.shape, *quantization)
        for name, (value, quantization) in zip(names, values, strict=True)
    }
    graph = one_node(op, inputs, attrs, {"quantization": Quantization.per_tensor(*meaning)})
    samples = {name: value for name, (value, _) in zip(names, values, strict=True)}
    return assert_machines_equal_oracle(graph, samples)["y"]


def assert_equals_litert(
    op: str, code: str, values: Sequence[tuple[np.ndarray, Meaning]], meaning: Meaning, attrs: Mapping[str, Any],
    constants: Sequence[np.ndarray] = (), batch: int = 0, **options: Any,
) -> None:  # fmt: skip
    """C kernel, oracle and LiteRT agree. batch: 1 where LiteRT takes the tensors with a batch dimension before ours."""
    got = forward(op, values, meaning, attrs)
    batched = [(value[(None,) * batch], quantization) for value, quantization in values]
    want = litert(code, batched, (1,) * batch + got.shape, meaning, constants, **options)
    assert_same(got, want.reshape(got.shape), "y")


def float32(x: float) -> float:
    """The nearest number a model file can hold."""
    return float(np.float32(x))
