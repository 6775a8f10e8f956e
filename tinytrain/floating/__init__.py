# SPDX-License-Identifier: Apache-2.0
"""A network as torch computes it in floats, built from an int8 graph: what integer training is compared with."""

from tinytrain.floating.compare import cosine, relative_error
from tinytrain.floating.model import TorchModel
from tinytrain.floating.torch import torch_module

__all__ = ["TorchModel", "cosine", "relative_error", "torch_module"]
