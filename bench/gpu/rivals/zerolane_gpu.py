# SPDX-License-Identifier: Apache-2.0
"""zerolane on a GPU: over TensorRT-RTX, TensorRT, or ONNX Runtime's CUDA provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import package_version
from bench.gpu import engines
from bench.gpu.device_arrays import on_device, pinned, to_host
from bench.rivals.contract import Feed, Form, Unsupported

SHORT = {"tensorrt-rtx": "rtx", "tensorrt": "trt", "onnxruntime": "ort"}
DEVICE = "cuda:0"


class ZerolaneGpuHandle:
    def __init__(self, path: Path, backend: str) -> None:
        self._path, self._backend = path, backend
        self._name = f"zerolane({SHORT[backend]})"
        self._sessions: dict[tuple[Any, ...], Any] = {}

    def session(self, inputs: Feed, graphs: bool) -> Any:
        """For these shapes. ONNX Runtime captures only where asked, and then only what it can."""
        import zerolane as zl

        key: tuple[Any, ...] = (graphs,)
        if self._backend != "onnxruntime":
            key += tuple((n, a.shape) for n, a in inputs.items())
        if key in self._sessions:
            return self._sessions[key]
        if self._backend == "onnxruntime":
            settings = {"use_tf32": "1", "cudnn_conv_algo_search": "EXHAUSTIVE"}
            if graphs:
                settings["enable_cuda_graph"] = "1"
            found = zl.load(
                str(self._path),
                backend=self._backend,
                device=DEVICE,
                providers=[("CUDA", settings)],
            )
        else:
            file = engines.engine_file(self._path, self._backend, inputs)
            found = zl.load(str(file), device=DEVICE, graphs=4 if graphs else 0)
        self._sessions[key] = found
        return found

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        import zerolane as zl

        try:
            return self._form(kind, inputs, wanted)
        except zl.Error as error:
            raise Unsupported(f"{type(error).__name__}: {str(error)[:300]}") from error

    def _form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        session = self.session(inputs, self._graphs(kind))
        name = f"{self._name}.{kind}"
        names = [spec.name for spec in session.outputs]
        if kind == "call":
            arrays = tuple(inputs[spec.name] for spec in session.inputs)

            def called() -> Feed:
                result = session(*arrays)
                values = result if len(names) > 1 else (result,)
                return {n: np.asarray(v) for n, v in zip(names, values, strict=True)}

            return Form(name, called, session, arrays)
        read: Callable[[Any], Any] = np.array
        if kind == "host":
            binding = self._pinned_binding(session, inputs, wanted)
        elif kind == "bound":
            binding = session.bind(**{n: a.shape for n, a in inputs.items()})
            for n, a in inputs.items():
                binding.inputs[n][...] = a
        else:
            binding = session.bind(**{n: on_device(a) for n, a in inputs.items()})
            read = to_host

        def outputs() -> Feed:
            for _ in range(4):  # graphs are captured behind the second run
                binding()
            return {n: read(binding.outputs[n]) for n in names}

        return Form(name, outputs, binding)

    def _graphs(self, kind: str) -> bool:
        return kind == "graph" if self._backend == "onnxruntime" else kind != "device"

    def lane(self, inputs: Feed, wanted: Feed) -> Any:
        session = self.session(inputs, self._graphs("host"))
        return self._pinned_binding(session, inputs, wanted, gil="release")

    @staticmethod
    def _pinned_binding(session: Any, inputs: Feed, wanted: Feed, gil: str | None = None) -> Any:
        out = {n: pinned(a) for n, a in wanted.items()}
        return session.bind(gil=gil, out=out, **{n: pinned(a) for n, a in inputs.items()})


class ZerolaneGpuDriver:
    """The kinds of the contract. Graphs: in all but "device"; over ONNX Runtime in "graph" only."""

    kinds: tuple[str, ...] = ("graph", "device", "host", "bound", "call")

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.name = f"zerolane({SHORT[backend]})"

    def version(self) -> str:
        return package_version("zerolane") or "unknown"

    def load(self, path: Path, threads: int) -> ZerolaneGpuHandle:
        if self.backend != "onnxruntime":
            reason = engines.runs(self.backend)
            if reason is not None:
                raise Unsupported(reason)
        handle = ZerolaneGpuHandle(path, self.backend)
        if self.backend == "onnxruntime":
            handle.session({}, graphs=False)
        return handle
