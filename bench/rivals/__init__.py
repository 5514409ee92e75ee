# SPDX-License-Identifier: Apache-2.0
"""zerolane and its peers behind one driver contract: same file, same inputs, same thread count."""

from __future__ import annotations

from bench.rivals.c_loop import CLoopDriver
from bench.rivals.contract import Driver
from bench.rivals.onnxruntime import OnnxRuntimeDriver
from bench.rivals.zerolane import GilMode, ZerolaneDriver


def all_drivers(gil: GilMode = "auto") -> tuple[Driver, ...]:
    """zerolane first: the C loop opens the same library and must find its environment made."""
    return (ZerolaneDriver(gil), CLoopDriver(), OnnxRuntimeDriver())
