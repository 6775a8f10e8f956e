# SPDX-License-Identifier: Apache-2.0
"""Run a Program on this machine, bit for bit as a board does: the same C runtime, bound through cffi."""

from tinytrain.host.machine import Machine
from tinytrain.host.runtime import Runtime, runtime

__all__ = ["Machine", "Runtime", "runtime"]
