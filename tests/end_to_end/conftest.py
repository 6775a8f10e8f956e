# SPDX-License-Identifier: Apache-2.0
"""The small model and its data."""

from tests.small import small_data, small_model

__all__ = ["small_data", "small_model"]
