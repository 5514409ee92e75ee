# SPDX-License-Identifier: Apache-2.0
"""The onnxruntime-gpu package: `run`, I/O binding on device memory, and its CUDA graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import package_version
from bench.rivals.contract import Feed, Form, Unsupported

PROVIDER = "CUDAExecutionProvider"


def _session(path: Path, graph: bool) -> Any:
    """On CUDA alone: the library would fall back to the CPU without a word."""
    import onnxruntime as ort

    if PROVIDER not in ort.get_available_providers():
        raise ImportError(f"this onnxruntime has no {PROVIDER}")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    settings = {"device_id": "0", "use_tf32": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"}
    if graph:
        settings["enable_cuda_graph"] = "1"
    session = ort.InferenceSession(str(path), options, providers=[(PROVIDER, settings)])
    session.disable_fallback()
    if session.get_providers()[0] != PROVIDER:
        raise ImportError(f"{PROVIDER} cannot be loaded here (the library's log says why)")
    return session


class OnnxRuntimeCudaHandle:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = _session(path, graph=False)
        self._names = [o.name for o in self._session.get_outputs()]

    def run(self, inputs: Feed) -> Feed:
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        if kind == "run":
            args = (None, inputs)
            return Form("onnxruntime.run", lambda: self.run(inputs), self._session.run, args)
        if kind == "graph":
            try:
                session = _session(self._path, graph=True)
                return self._bound(session, "onnxruntime.graph", inputs, wanted)
            except Exception as error:
                # Not every graph may be captured, and the reason is the library's own.
                raise Unsupported(f"no CUDA graph: {str(error)[:200]}") from error
        return self._bound(self._session, "onnxruntime.iobinding", inputs, wanted)

    def lane(self, inputs: Feed, wanted: Feed) -> Any:
        """`run` of the one session: it may be called from any thread."""
        copies = {name: a.copy() for name, a in inputs.items()}
        return lambda: self._session.run(None, copies)

    def _bound(self, session: Any, name: str, inputs: Feed, wanted: Feed) -> Form:
        import onnxruntime as ort

        binding = session.io_binding()
        values = {n: ort.OrtValue.ortvalue_from_numpy(a, "cuda", 0) for n, a in inputs.items()}
        for n, value in values.items():
            binding.bind_ortvalue_input(n, value)
        results = {
            n: ort.OrtValue.ortvalue_from_shape_and_type(a.shape, a.dtype, "cuda", 0)
            for n, a in wanted.items()
        }
        for n in self._names:
            binding.bind_ortvalue_output(n, results[n])
        for _ in range(3):  # a graph is captured meanwhile
            session.run_with_iobinding(binding)

        def outputs() -> Feed:
            session.run_with_iobinding(binding)
            assert values
            return {n: np.array(results[n].numpy()) for n in self._names}

        return Form(name, outputs, session.run_with_iobinding, (binding,))


class OnnxRuntimeCudaDriver:
    name = "onnxruntime"
    kinds: tuple[str, ...] = ("iobinding", "graph", "run")

    def version(self) -> str:
        return package_version("onnxruntime-gpu") or package_version("onnxruntime") or "unknown"

    def load(self, path: Path, threads: int) -> OnnxRuntimeCudaHandle:
        return OnnxRuntimeCudaHandle(path)
