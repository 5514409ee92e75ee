# SPDX-License-Identifier: Apache-2.0
"""The vendor's own Python bindings on the same plan, with a loop written by hand over CuPy."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import package_version
from bench.gpu import engines
from bench.rivals.contract import Feed, Form, Unsupported

MODULES = {
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
}
SHORT = {"tensorrt-rtx": "vendor(rtx)", "tensorrt": "vendor(trt)"}
TO_DEVICE, TO_HOST = 1, 2


def bindings(backend: str) -> Any:
    """The vendor's module: the package, or the bare bindings where only those are installed."""
    failures = []
    for name in MODULES[backend]:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:
            failures.append(f"{name}: {error}")
    raise ImportError("; ".join(failures))


class Runner:
    """An execution context with its stream and memory. One thread at a time."""

    def __init__(self, engine: Any, trt: Any, inputs: Feed, wanted: Feed) -> None:
        import cupy

        self._cupy, self._runtime = cupy, cupy.cuda.runtime
        self.context = engine.create_execution_context()
        if self.context is None:
            raise Unsupported("the vendor's bindings made no execution context")
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._pinned: list[Any] = []
        self.host: Feed = {}
        self.device: dict[str, Any] = {}
        self._to_device: list[tuple[int, int, int]] = []
        self._to_host: list[tuple[int, int, int]] = []
        for name, array in {**inputs, **wanted}.items():
            given = name in inputs
            host = self._pinned_like(array)
            device = cupy.empty(array.shape, array.dtype)
            self.host[name], self.device[name] = host, device
            if given:
                host[...] = array
                device.set(host)
                if not self.context.set_input_shape(name, array.shape):
                    raise Unsupported(f"the engine does not take {name} {array.shape}")
            address = host.ctypes.data if self._on_host(engine, trt, name) else device.data.ptr
            self.context.set_tensor_address(name, address)
            if not self._on_host(engine, trt, name):
                pair = (device.data.ptr, host.ctypes.data, array.nbytes)
                (self._to_device if given else self._to_host).append(pair)
        cupy.cuda.Device().synchronize()
        self.outputs = list(wanted)
        self.graph: Any = None

    @staticmethod
    def _on_host(engine: Any, trt: Any, name: str) -> bool:
        return bool(engine.get_tensor_location(name) == trt.TensorLocation.HOST)

    def _pinned_like(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        memory = self._cupy.cuda.alloc_pinned_memory(max(array.nbytes, 1))
        self._pinned.append(memory)
        return np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)

    def enqueue(self) -> None:
        if not self.context.execute_async_v3(self.stream.ptr):
            raise RuntimeError("execute_async_v3 was refused")

    def capture(self, copies: bool) -> None:
        """The call (with its copies) as a graph, after a plain run."""
        self.enqueue()
        self.stream.synchronize()
        self.stream.begin_capture()
        if copies:
            self.copy_in()
        self.enqueue()
        if copies:
            self.copy_out()
        self.graph = self.stream.end_capture()

    def copy_in(self) -> None:
        for device, host, size in self._to_device:
            self._runtime.memcpyAsync(device, host, size, TO_DEVICE, self.stream.ptr)

    def copy_out(self) -> None:
        for device, host, size in self._to_host:
            self._runtime.memcpyAsync(host, device, size, TO_HOST, self.stream.ptr)

    def call(self) -> None:
        self.context.execute_async_v3(self.stream.ptr)
        self.stream.synchronize()

    def replay(self) -> None:
        self.graph.launch(self.stream)
        self.stream.synchronize()

    def call_host(self) -> None:
        self.copy_in()
        self.context.execute_async_v3(self.stream.ptr)
        self.copy_out()
        self.stream.synchronize()

    def read(self) -> Feed:
        self.stream.synchronize()
        self.copy_out()
        self.stream.synchronize()
        return {name: self.host[name].copy() for name in self.outputs}


class TensorRtPythonHandle:
    def __init__(self, path: Path, backend: str) -> None:
        self._path, self._backend = path, backend
        self._trt = bindings(backend)
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(self._logger)
        self._engines: dict[Path, Any] = {}

    def runner(self, inputs: Feed, wanted: Feed) -> Runner:
        file = engines.engine_file(self._path, self._backend, inputs)
        if file not in self._engines:
            plan = bytes(engines.plan_of(file))
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise Unsupported("the vendor's bindings refused the plan")
            self._engines[file] = engine
        return Runner(self._engines[file], self._trt, inputs, wanted)

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        runner = self.runner(inputs, wanted)
        name = f"{SHORT[self._backend]}.{kind}"
        fn: Any = runner.call_host if kind == "host" else runner.call
        if kind == "graph":
            try:
                runner.capture(copies=False)
            except Exception as error:
                raise Unsupported(f"no CUDA graph: {str(error)[:200]}") from error
            fn = runner.replay

        def outputs() -> Feed:
            fn()
            return runner.read()

        return Form(name, outputs, fn)

    def lane(self, inputs: Feed, wanted: Feed) -> Any:
        """Copies and execution of one context on its own stream, as one graph where that works."""
        runner = self.runner(inputs, wanted)
        try:
            runner.capture(copies=True)
            return runner.replay
        except Exception:
            return self.runner(inputs, wanted).call_host


class TensorRtPythonDriver:
    kinds: tuple[str, ...] = ("graph", "device", "host")

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.name = SHORT[backend]

    def version(self) -> str:
        return package_version(f"{self.backend}-cu13-bindings") or "unknown"

    def load(self, path: Path, threads: int) -> TensorRtPythonHandle:
        reason = engines.runs(self.backend)
        if reason is not None:
            raise Unsupported(reason)
        return TensorRtPythonHandle(path, self.backend)
