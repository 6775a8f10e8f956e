# SPDX-License-Identifier: Apache-2.0
"""How near integer training is to training the same network in floats: gradients tensor by tensor, and a loss curve."""

from tinytrain.certificates.integer import GradientMeter
from tinytrain.certificates.network import Certificate, Curve, Row, certify_network

__all__ = ["Certificate", "Curve", "GradientMeter", "Row", "certify_network"]
