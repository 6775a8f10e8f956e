# SPDX-License-Identifier: Apache-2.0
"""Figures about models, plans and runs, for tables and JSON."""
