# SPDX-License-Identifier: Apache-2.0
"""What no caller can be faster than: copies, the bare launch of a graph, kernels by themselves."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.gpu.cuda_table import TO_DEVICE, TO_HOST, Failed, Table, open_table

from bench.rivals.contract import Feed, Form
from bench.settings import BUILD_FOLDER

__all__ = ["TO_DEVICE", "TO_HOST", "Captured", "CopyFloor", "Failed", "open_table"]

SOURCE = Path(__file__).with_name("graph_loop.c")


@cache
def _loop() -> ctypes.CDLL:
    """The C loop, compiled once."""
    target = BUILD_FOLDER / "libgraph_loop.so"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError(
                "building the floor: no C compiler `cc` on PATH, expected one; install gcc or clang"
            )
        BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        flags = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", partial, SOURCE], check=True)
        partial.replace(target)
    library = ctypes.CDLL(str(target))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.time_graph.argtypes = [*[pointer] * 4, number, number, pointer]
    library.time_copy.argtypes = [
        *(pointer, pointer, pointer, pointer, ctypes.c_uint64, ctypes.c_int32, pointer),
        *(number, number, pointer),
    ]
    return library


def _checked(table: Table, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"timing in C: {table.error_text(status).decode()}")


class Captured:
    """Work captured through the table; launched and waited for by the C loop.

    `enqueue` puts the work on the stream it is given (an address). `keep` stays alive with it.
    """

    def __init__(self, enqueue: Callable[[int], object], keep: object = None) -> None:
        self._table, self._keep = open_table(), keep
        self.stream = self._table.made("stream_create", 0, 0)
        enqueue(self.stream)
        self._table.stream_synchronize(0, self.stream)
        self._table.capture_begin(0, self.stream)
        try:
            enqueue(self.stream)
        finally:
            graph = self._table.made("capture_end", 0, self.stream)
        self.nodes = int(self._table.number("graph_nodes", 0, graph, kind=ctypes.c_uint64))
        self._exec = self._table.made("graph_instantiate", 0, graph)
        self._table.graph_destroy(0, graph)
        if self.nodes == 0:
            raise RuntimeError(
                "capturing the floor's graph: it is empty, expected the engine's work"
            )

    def time(self, batches: int, calls: int) -> list[int]:
        """Nanoseconds of each batch of launches, each waited for."""
        ns = np.empty(batches, np.int64)
        launch, wait = (self._table.addresses[n] for n in ("graph_launch", "stream_synchronize"))
        status = _loop().time_graph(
            launch, wait, self._exec, self.stream, batches, calls, ns.ctypes.data
        )
        _checked(self._table, status)
        return [int(v) for v in ns]

    def device_us(self, launches: int = 100) -> float:
        """Microseconds of one launch on the device, when launches follow one another: by events."""
        t = self._table
        before, after = (t.made("event_create", 0, 1, 0) for _ in range(2))
        try:
            best = float("inf")
            for _ in range(5):
                t.event_record(0, before, self.stream)
                for _ in range(launches):
                    t.graph_launch(0, self._exec, self.stream)
                t.event_record(0, after, self.stream)
                t.event_synchronize(0, after)
                ms = t.number("event_elapsed_ms", 0, before, after, kind=ctypes.c_float)
                best = min(best, 1000 * ms / launches)
        finally:
            t.event_destroy(0, before)
            t.event_destroy(0, after)
        return best

    def form(self, name: str, outputs: Callable[[], Feed]) -> Form:
        return Form(name, outputs, native=self.time)


def bare_graph() -> Captured:
    """One node that sets a few bytes: the launch and the wait are all that is left."""
    table = open_table()
    memory = table.made("device_allocate", 0, 256)
    return Captured(lambda stream: table.fill_async(0, memory, 1, 256, stream))


class CopyFloor:
    """Copies of `count` bytes between the device and pinned (or pageable) host memory."""

    def __init__(self, count: int, pinned: bool = True) -> None:
        self._table, self.count = open_table(), count
        self._stream = self._table.made("stream_create", 0, 0)
        self._device = self._table.made("device_allocate", 0, count)
        self._pageable: Any = None
        if pinned:
            self._host = self._table.made("host_allocate", 0, count)
            ctypes.memset(self._host, 1, count)
        else:
            self._pageable = np.ones(count, np.uint8)
            self._host = self._pageable.ctypes.data
        self._pinned = pinned

    def time(self, kind: int, batches: int, calls: int) -> list[int]:
        """Nanoseconds of each batch; kind is TO_DEVICE or TO_HOST."""
        to, source = self._device, self._host
        if kind == TO_HOST:
            to, source = source, to
        ns = np.empty(batches, np.int64)
        copy, wait = (self._table.addresses[n] for n in ("copy_async", "stream_synchronize"))
        status = _loop().time_copy(
            copy, wait, to, source, self.count, kind, self._stream, batches, calls, ns.ctypes.data
        )
        _checked(self._table, status)
        return [int(v) for v in ns]

    def us(self, kind: int, rounds: int = 25) -> list[float]:
        """Microseconds of single copies, after a few untimed ones."""
        self.time(kind, 3, 1)
        return [v / 1000 for v in self.time(kind, rounds, 1)]

    def close(self) -> None:
        self._table.device_free(0, self._device)
        if self._pinned:
            self._table.host_free(0, self._host)
        self._table.stream_destroy(0, self._stream)
