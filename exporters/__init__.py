# SPDX-License-Identifier: Apache-2.0
"""Exporters: one target, one folder. They see only a Program."""
