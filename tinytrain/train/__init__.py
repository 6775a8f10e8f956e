# SPDX-License-Identifier: Apache-2.0
"""Training: schemes, the trained head, and autodiff from a forward graph to a training graph."""

from tinytrain.train.autodiff import training_graph
from tinytrain.train.loss import Loss
from tinytrain.train.optimizer import Optimizer
from tinytrain.train.scheme import (
    LayerUpdate,
    Scheme,
    Slice,
    all_weights,
    classifier_node,
    load_scheme,
    parse_fields,
    parse_scheme,
    published_scheme,
    trainable_layers,
)

__all__ = [
    "LayerUpdate", "Loss", "Optimizer", "Scheme", "Slice", "all_weights", "classifier_node", "load_scheme",
    "parse_fields", "parse_scheme", "published_scheme", "trainable_layers", "training_graph",
]  # fmt: skip
