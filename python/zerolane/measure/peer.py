"""The onnxruntime Python package, run the usual way on the same model, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from zerolane._lazy import require
from zerolane.engine import is_engine_file
from zerolane.errors import BackendError, Error, InvalidArgument
from zerolane.measure.timing import Call
from zerolane.model.load import _choose_device as choose_device
from zerolane.model.session import Session

PEERS = ("onnxruntime",)


@dataclass(frozen=True)
class Peer:
    """A model loaded by the onnxruntime package."""

    name: str
    version: str
    _session: Any

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A run, dict in and dict out."""
        try:
            outputs = self._session.run(None, dict(inputs))
        except Exception as error:
            raise _failed("running", error) from error
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, outputs, strict=True))

    def call(self, inputs: Mapping[str, Any]) -> Call:
        """The call that is timed: `session.run(None, inputs)`."""
        return partial(self._session.run, None, dict(inputs))


def open_peer(session: Session, threads: int) -> Peer:
    """The model of `session` in the onnxruntime package, with the same options.

    Same providers, graph level, execution mode, dimensions and config entries; `threads` of its
    own, spinning only if the session's threads do.
    """
    ort = require("onnxruntime", "cpu", "measuring the onnxruntime package")
    options = session.options
    source = session._recipe[0]
    if source is None or (isinstance(source, str) and is_engine_file(source)):
        raise InvalidArgument(
            f"measuring the onnxruntime package: {session.name} is an engine, and the package "
            "runs models; load the model with backend='tensorrt' or 'tensorrt-rtx'",
            "vs",
        )
    try:
        wanted = ort.SessionOptions()
        wanted.intra_op_num_threads = threads
        wanted.inter_op_num_threads = options.inter_threads or 1
        wanted.log_severity_level = 3
        wanted.enable_cpu_mem_arena = options.arena
        wanted.enable_mem_pattern = options.memory_pattern
        wanted.execution_mode = (
            ort.ExecutionMode.ORT_PARALLEL
            if options.execution_mode == "parallel"
            else ort.ExecutionMode.ORT_SEQUENTIAL
        )
        levels = ort.GraphOptimizationLevel
        wanted.graph_optimization_level = {
            "none": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[options.graph_level]
        for name, size in options.free_dimensions.items():
            wanted.add_free_dimension_override_by_name(name, size)
        spin = "1" if options.spin else "0"
        entries = {"session.intra_op.allow_spinning": spin} | dict(options.config)
        for key, value in entries.items():
            wanted.add_session_config_entry(key, value)
        loaded = ort.InferenceSession(source, wanted, providers=_providers(session))
    except Exception as error:
        raise _failed("loading", error) from error
    return Peer("onnxruntime", ort.__version__, loaded)


def _providers(session: Session) -> list[Any]:
    if session.backend != "onnxruntime":
        return ["CPUExecutionProvider"]
    _, asked = choose_device(session._recipe[1]["device"], session.options)
    used = [p for p in asked if session.why[f"provider {p[0]}"].startswith("chosen")]
    return [*((f"{name}ExecutionProvider", dict(o)) for name, o in used), "CPUExecutionProvider"]


def _failed(doing: str, error: Exception) -> Error:
    return BackendError(
        f"{doing} the model with the onnxruntime package: {type(error).__name__}: {error}; "
        "measure or compare without it",
        "onnxruntime",
    )
