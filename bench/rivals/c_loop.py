# SPDX-License-Identifier: Apache-2.0
"""The floor: a C loop over prebound memory, on the very library file that zerolane opens."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import native
from bench.rivals.contract import Array, Feed, Form, Unsupported

# ONNX's element type numbers of the dtypes that NumPy has.
ELEMENT_TYPES: dict[str, int] = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}


def element_type(array: Array) -> int:
    try:
        return ELEMENT_TYPES[array.dtype.name]
    except KeyError:
        raise Unsupported(f"the C loop cannot bind {array.dtype} to fixed memory") from None


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(native.floor_library()))
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    library.floor_error.restype = text
    library.floor_version.restype = text
    library.floor_version.argtypes = [pointer]
    library.floor_load.restype = pointer
    library.floor_load.argtypes = [text, text, ctypes.c_int]
    for bind in (library.floor_bind_input, library.floor_bind_output):
        bind.argtypes = [pointer, text, pointer, size, pointer, size, ctypes.c_int]
    library.floor_run.argtypes = [pointer, ctypes.c_int64]
    library.floor_time.argtypes = [pointer, ctypes.c_int64, ctypes.c_int64, pointer]
    library.floor_rate.argtypes = [pointer, ctypes.c_int64, ctypes.c_int64, pointer, pointer]
    library.floor_free.argtypes = [pointer]
    return library


@cache
def _held_run() -> Any:
    run = ctypes.PyDLL(str(native.floor_library())).floor_run
    run.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    return run


def _check(result: object) -> int:
    if not isinstance(result, int):  # a null pointer arrives as None
        raise RuntimeError(f"running the C loop: {_library().floor_error().decode()}")
    return result


class CLoopHandle:
    """One model in the C loop, with its own memory for inputs and outputs."""

    def __init__(self, path: Path, threads: int) -> None:
        library = str(native.onnxruntime_library()).encode()
        self._model = _check(_library().floor_load(library, str(path).encode(), threads))
        self._inputs: Feed = {}
        self._outputs: Feed = {}

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            _library().floor_free(self._model)

    def version(self) -> str:
        return str(_library().floor_version(self._model).decode())

    def bind(self, inputs: Feed, outputs: Feed) -> None:
        """Copies both into memory of this handle, and binds that. Once for a handle."""
        types = {n: element_type(a) for n, a in {**inputs, **outputs}.items()}
        self._inputs = {n: np.array(a, order="C") for n, a in inputs.items()}
        self._outputs = {n: np.zeros_like(a, order="C") for n, a in outputs.items()}
        for bind, arrays in (
            (_library().floor_bind_input, self._inputs),
            (_library().floor_bind_output, self._outputs),
        ):
            for n, a in arrays.items():
                shape = (ctypes.c_int64 * a.ndim)(*a.shape)
                data, name = a.ctypes.data, n.encode()
                self._succeed(bind(self._model, name, data, a.nbytes, shape, a.ndim, types[n]))

    def calls(self, count: int) -> None:
        """`count` calls, untimed."""
        self._succeed(_library().floor_run(self._model, count))

    def call_holding_gil(self) -> None:
        """One call, as ctypes makes it without giving the GIL away (about 1 us of ctypes in it)."""
        _held_run()(self._model, 1)

    def time(self, batches: int, calls: int) -> list[int]:
        ns = np.empty(batches, np.int64)
        self._succeed(_library().floor_time(self._model, batches, calls, ns.ctypes.data))
        return [int(v) for v in ns]

    def at_rate(self, period_ns: int, ticks: int) -> tuple[Array, Array]:
        """(late, call) in ns of each tick, late -1 where it was left out. Without the GIL."""
        late, call = np.zeros((2, ticks), np.int64)
        arguments = (self._model, period_ns, ticks, late.ctypes.data, call.ctypes.data)
        self._succeed(_library().floor_rate(*arguments))
        return late, call

    def outputs(self) -> Feed:
        self.calls(1)
        return {n: a.copy() for n, a in self._outputs.items()}

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        self.bind(inputs, wanted)
        return Form(f"c.{kind}", self.outputs, native=self.time)

    @staticmethod
    def _succeed(code: int) -> None:
        if code != 0:
            raise RuntimeError(f"running the C loop: {_library().floor_error().decode()}")


class CLoopDriver:
    """Load zerolane first: one library has one environment, whose maker sets the thread pool."""

    name = "c"
    kinds: tuple[str, ...] = ("loop",)

    def version(self) -> str:
        return native.onnxruntime_library().name

    def load(self, path: Path, threads: int) -> CLoopHandle:
        return CLoopHandle(path, threads)
