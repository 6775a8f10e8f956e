# SPDX-License-Identifier: Apache-2.0
"""The small model, its data, plan and firmware."""

from tests.small import batching_firmware, small_data, small_firmware, small_model, small_plan

__all__ = ["batching_firmware", "small_data", "small_firmware", "small_model", "small_plan"]
