# SPDX-License-Identifier: Apache-2.0
"""The intermediate representation: tensors, nodes, graphs, the verifier and the text form. Knows no operator."""

from tinytrain.graph.graph import Graph
from tinytrain.graph.node import Node, Phase
from tinytrain.graph.tensor import DTYPES, Exponent, Quantization, Role, Tensor
from tinytrain.graph.text import to_text
from tinytrain.graph.verify import verify

__all__ = ["DTYPES", "Exponent", "Graph", "Node", "Phase", "Quantization", "Role", "Tensor", "to_text", "verify"]
