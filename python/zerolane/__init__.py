"""zerolane: low-latency inference over ONNX Runtime and TensorRT.

Everything is imported when first used, so `import zerolane` costs almost nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing's, without importing it

if TYPE_CHECKING:
    from typing import Any

    from zerolane import errors, ops, optimize
    from zerolane._native import Binding, Future
    from zerolane.batcher.batcher import Batcher
    from zerolane.batcher.sequences import Sequences
    from zerolane.builder.build import Build, build
    from zerolane.builder.options import BuildOptions
    from zerolane.builder.report import UnsupportedGraph
    from zerolane.cmake import get_include
    from zerolane.converters.convert import convert
    from zerolane.engine.file import Engine
    from zerolane.errors import (
        BackendCrashed,
        BackendError,
        Cancelled,
        ContractBroken,
        DeadlineExceeded,
        DeviceError,
        Error,
        InternalError,
        InvalidArgument,
        InvalidModel,
        NotFound,
        OutOfMemory,
        ShapeMismatch,
        Unavailable,
        Unsupported,
    )
    from zerolane.lanes.lanes import Lanes
    from zerolane.loop.loop import Loop
    from zerolane.loop.mailbox import Mailbox
    from zerolane.loop.realtime import realtime
    from zerolane.measure.bench import bench
    from zerolane.measure.compare import compare
    from zerolane.measure.contract import Contract
    from zerolane.measure.load_test import load_test
    from zerolane.measure.metrics import metrics, metrics_text, prometheus_collector
    from zerolane.measure.trace import trace
    from zerolane.model.inspect import inspect
    from zerolane.model.load import load
    from zerolane.model.session import Session
    from zerolane.ops.python_op import op
    from zerolane.pipeline.pipeline import Pipeline
    from zerolane.pipeline.stage import Stage
    from zerolane.reports.report import report
    from zerolane.runtimes.configure import configure
    from zerolane.runtimes.doctor import doctor
    from zerolane.tuning.tune import tune
    from zerolane.types import Options, TensorSpec

__version__ = "0.1.0"

_HOME = {
    "Batcher": "zerolane.batcher.batcher",
    "Binding": "zerolane._native",
    "Build": "zerolane.builder.build",
    "BuildOptions": "zerolane.builder.options",
    "Contract": "zerolane.measure.contract",
    "Engine": "zerolane.engine.file",
    "Future": "zerolane._native",
    "Lanes": "zerolane.lanes.lanes",
    "Loop": "zerolane.loop.loop",
    "Mailbox": "zerolane.loop.mailbox",
    "Options": "zerolane.types",
    "Pipeline": "zerolane.pipeline.pipeline",
    "Sequences": "zerolane.batcher.sequences",
    "Session": "zerolane.model.session",
    "Stage": "zerolane.pipeline.stage",
    "TensorSpec": "zerolane.types",
    "UnsupportedGraph": "zerolane.builder.report",
    "bench": "zerolane.measure.bench",
    "build": "zerolane.builder.build",
    "compare": "zerolane.measure.compare",
    "configure": "zerolane.runtimes.configure",
    "convert": "zerolane.converters.convert",
    "doctor": "zerolane.runtimes.doctor",
    "get_include": "zerolane.cmake",
    "inspect": "zerolane.model.inspect",
    "load": "zerolane.model.load",
    "load_test": "zerolane.measure.load_test",
    "metrics": "zerolane.measure.metrics",
    "metrics_text": "zerolane.measure.metrics",
    "op": "zerolane.ops.python_op",
    "prometheus_collector": "zerolane.measure.metrics",
    "realtime": "zerolane.loop.realtime",
    "report": "zerolane.reports.report",
    "trace": "zerolane.measure.trace",
    "tune": "zerolane.tuning.tune",
}
_ERRORS = (
    "BackendCrashed",
    "BackendError",
    "Cancelled",
    "ContractBroken",
    "DeadlineExceeded",
    "DeviceError",
    "Error",
    "InternalError",
    "InvalidArgument",
    "InvalidModel",
    "NotFound",
    "OutOfMemory",
    "ShapeMismatch",
    "Unavailable",
    "Unsupported",
)

__all__ = [
    "BackendCrashed",
    "BackendError",
    "Batcher",
    "Binding",
    "Build",
    "BuildOptions",
    "Cancelled",
    "Contract",
    "ContractBroken",
    "DeadlineExceeded",
    "DeviceError",
    "Engine",
    "Error",
    "Future",
    "InternalError",
    "InvalidArgument",
    "InvalidModel",
    "Lanes",
    "Loop",
    "Mailbox",
    "NotFound",
    "Options",
    "OutOfMemory",
    "Pipeline",
    "Sequences",
    "Session",
    "ShapeMismatch",
    "Stage",
    "TensorSpec",
    "Unavailable",
    "Unsupported",
    "UnsupportedGraph",
    "bench",
    "build",
    "compare",
    "configure",
    "convert",
    "doctor",
    "errors",
    "get_include",
    "inspect",
    "load",
    "load_test",
    "metrics",
    "metrics_text",
    "op",
    "ops",
    "optimize",
    "prometheus_collector",
    "realtime",
    "report",
    "trace",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in ("ops", "optimize"):
        value: Any = importlib.import_module(f"zerolane.{name}")
    elif name == "errors" or name in _ERRORS:
        module = importlib.import_module("zerolane.errors")
        value = module if name == "errors" else getattr(module, name)
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'zerolane' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
