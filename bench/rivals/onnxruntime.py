# SPDX-License-Identifier: Apache-2.0
"""The onnxruntime package: `run`, the usual call, and `run_with_iobinding`, its fastest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.environment import package_version
from bench.rivals.contract import Array, Feed, Form, Unsupported


class OnnxRuntimeHandle:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [o.name for o in session.get_outputs()]

    def run(self, inputs: Feed) -> Feed:
        """The reference: what every other form must compute as well."""
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        if kind == "run":
            args = (None, inputs)
            return Form("onnxruntime.run", lambda: self.run(inputs), self._session.run, args)
        return self._iobinding(inputs, wanted)

    def _iobinding(self, inputs: Feed, wanted: Feed) -> Form:
        import onnxruntime as ort

        arrays: dict[str, Array] = {**inputs, **wanted}
        if any(a.dtype.kind in "OUS" for a in arrays.values()):
            raise Unsupported("strings cannot be bound to fixed memory")
        values = {name: ort.OrtValue.ortvalue_from_numpy(a.copy()) for name, a in arrays.items()}
        binding = self._session.io_binding()
        for name in inputs:
            binding.bind_ortvalue_input(name, values[name])
        for name in self._names:
            binding.bind_ortvalue_output(name, values[name])

        def outputs() -> Feed:
            self._session.run_with_iobinding(binding)
            return {name: values[name].numpy().copy() for name in self._names}

        return Form("onnxruntime.iobinding", outputs, self._session.run_with_iobinding, (binding,))


class OnnxRuntimeDriver:
    name = "onnxruntime"
    kinds: tuple[str, ...] = ("iobinding", "run")

    def version(self) -> str:
        return package_version("onnxruntime") or "unknown"

    def load(self, path: Path, threads: int) -> OnnxRuntimeHandle:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return OnnxRuntimeHandle(session)
